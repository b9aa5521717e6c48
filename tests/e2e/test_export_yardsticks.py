"""Adapters and stored embeddings of real checkpoints, where CLIP_UNLEARN_YARDSTICKS names a folder that has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from clip_unlearn.core.patch import Patch
from clip_unlearn.data.open import open_data
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.vectors import unit
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.api import unlearn
from clip_unlearn.runs.export import export
from clip_unlearn.runs.reembed import reembed

peft = pytest.importorskip("peft")

pytestmark = [
    pytest.mark.yardstick,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]

MODELS = {
    "lit-mobilenet": (transformers.VisionTextDualEncoderModel, "dalmatian"),
    "lit-minilm": (transformers.VisionTextDualEncoderModel, "dalmatian"),
    "vit-distilled": (transformers.CLIPModel, "starfish"),
}
SENTENCES = [f"a photo of a {name}." for name in ("dalmatian", "starfish", "grand piano", "pizza")]


def edit(model: Any, target: str, kind: str) -> Patch:
    """Return a patch by `project`, or a random low-rank change of both last layers."""
    if kind == "project":
        return unlearn(model, [target])
    draw, deltas = torch.Generator().manual_seed(3), {}
    for name, rank in (("visual_projection.weight", 2), ("text_projection.weight", 5)):
        rows, columns = model.weights[name].shape
        left, right = torch.randn(rows, rank, generator=draw), torch.randn(rank, columns, generator=draw)
        deltas[name] = LowRank(left=0.01 * left, right=right)
    return Patch(deltas=deltas)


@torch.no_grad()
def logits(module: Any, folder: Path, pictures: list[Any]) -> torch.Tensor:
    """Return the library's own logits of a module; some text towers take no token types."""
    tokens = dict(transformers.AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt"))
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt")
    base = module.get_base_model() if isinstance(module, peft.PeftModel) else module
    if isinstance(base, transformers.CLIPModel):
        tokens.pop("token_type_ids", None)
    found: torch.Tensor = module(**tokens, **pixels).logits_per_image
    return found


@pytest.mark.parametrize("kind", ["project", "random on both sides"])
@pytest.mark.parametrize("name", MODELS)
def test_stock_peft_on_real_checkpoints(name: str, kind: str, yardsticks: Path, tmp_path: Path) -> None:
    library, target = MODELS[name]
    folder = yardsticks / "models" / name
    model = open_model(folder)
    patch = edit(model, target, kind)
    export(model, patch, tmp_path / "peft", to="peft")
    export(model, patch, tmp_path / "hf", to="hf")
    images = open_data(str(yardsticks / "data" / "caltech101-test.parquet"))
    pictures = [images.picture(index) for index in range(16)]

    def plain(where: Path) -> Any:
        return library.from_pretrained(where, dtype=torch.float32).eval()

    original, baked = logits(plain(folder), folder, pictures), logits(plain(tmp_path / "hf"), folder, pictures)
    adapted = peft.PeftModel.from_pretrained(plain(folder), tmp_path / "peft")
    edited = logits(adapted, folder, pictures)
    assert float((edited - baked).abs().max()) <= 1e-4
    assert float((edited - original).abs().max()) > 1e-2
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, folder, pictures), original)


@pytest.mark.parametrize("kind", ["project", "random on both sides"])
def test_a_real_clip_for_open_clip(kind: str, yardsticks: Path, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    model = open_model(yardsticks / "models" / "vit-distilled")
    patch = edit(model, "starfish", kind)
    export(model, patch, tmp_path / "out", to="open_clip")
    images = open_data(str(yardsticks / "data" / "caltech101-test.parquet"))
    pixels = model.adapter.prepare([images.picture(index) for index in range(16)])
    found = open_model(tmp_path / "out").logits(pixels, SENTENCES)
    assert float((found - patch.apply(model).logits(pixels, SENTENCES)).abs().max()) <= 1e-4
    assert float((found - model.logits(pixels, SENTENCES)).abs().max()) > 1e-2


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_stored_embeddings_of_real_pictures(name: str, yardsticks: Path, tmp_path: Path) -> None:
    model = open_model(yardsticks / "models" / name)
    patch = unlearn(model, [MODELS[name][1]])
    images = open_data(str(yardsticks / "data" / "caltech101-test.parquet"))
    pixels = model.adapter.prepare([images.picture(index) for index in range(32)])
    np.save(tmp_path / "in.npy", unit(model.images(pixels)).numpy())
    reembed(model, patch, tmp_path / "in.npy", tmp_path / "out.npy")
    wanted = unit(patch.apply(model).images(pixels))
    assert float((torch.from_numpy(np.load(tmp_path / "out.npy")) - wanted).abs().max()) <= 1e-4
