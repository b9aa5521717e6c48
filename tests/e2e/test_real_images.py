"""Real pictures and real checkpoints, where CLIP_UNLEARN_YARDSTICKS names a folder that has them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from clip_unlearn.core.record import Record
from clip_unlearn.data.open import open_data
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.bake import bake
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.runs.run import run

pytestmark = [pytest.mark.yardstick, pytest.mark.slow]

MODELS = {
    "lit-mobilenet": (transformers.VisionTextDualEncoderModel, "dalmatian"),
    "lit-minilm": (transformers.VisionTextDualEncoderModel, "dalmatian"),
    "vit-distilled": (transformers.CLIPModel, "starfish"),
}


@pytest.mark.parametrize("name", MODELS)
def test_forget_bake_and_open_with_the_stock_library(name: str, yardsticks: Path, tmp_path: Path) -> None:
    library, target = MODELS[name]
    data = str(yardsticks / "data" / "caltech101-test.parquet")
    recipe = Recipe.model_validate({"model": str(yardsticks / "models" / name), "forget": [target], "data": data})
    record = run(recipe, tmp_path / "run")
    after = next(one for one in record.readings if (one.name, one.subject) == ("forget accuracy", "after"))
    assert after.value <= 0.10
    assert Record.load(tmp_path / "run" / "record.json") == record

    from clip_unlearn.core.patch import Patch

    model = open_model(recipe.model.id)
    patch = Patch.from_pretrained(tmp_path / "run" / "patch")
    bake(model, patch, tmp_path / "baked")
    names = ("dalmatian", "starfish", "grand piano", "pizza")
    sentences = [f"a photo of a {one}." for one in names]
    images = open_data(data)
    pictures = [images.picture(index) for index in range(16)]
    ours = patch.apply(model).logits(model.adapter.prepare(pictures), sentences)
    theirs = stock_logits(library, tmp_path / "baked", pictures, sentences)
    assert float((ours - theirs).abs().max()) <= 1e-4
    plain = stock_logits(library, Path(recipe.model.id), pictures, sentences)
    assert float((plain - theirs).abs().max()) > 1e-2


@torch.no_grad()
def stock_logits(library: Any, folder: Path, pictures: list[Any], sentences: list[str]) -> torch.Tensor:
    """Return the logits of the library's own joint forward."""
    module = library.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    inputs = dict(tokens) if library is not transformers.CLIPModel else {**tokens, "token_type_ids": None}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    logits: torch.Tensor = module(**inputs, **pixels).logits_per_image
    return logits
