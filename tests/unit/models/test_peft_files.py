"""Adapters that stock PEFT loads: the edit exactly, nothing else, and the base model when switched off."""

import copy
import json
import re
from typing import Any

import pytest
import torch
from torch import nn

from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.models import peft_files
from clip_unlearn.models.peft_files import Base, Part

peft = pytest.importorskip("peft")

# Between the two libraries, at every load.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

SENTENCES = ["a cat", "a photo of a very old red teapot"]
BASE = Base(where="org/base", revision="abc")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_patch(tiny, image: int = 2, text: int = 3) -> Patch:
    """Return random low-rank changes of both last layers, of the given ranks."""
    deltas = {}
    for tower, rank in (("image", image), ("text", text)):
        name = tiny.model.readout(tower).weight
        rows, columns = tiny.model.weights[name].shape
        deltas[name] = LowRank(left=0.3 * draw(rows, rank, seed=rank), right=draw(rank, columns, seed=rank + 1))
    return Patch(deltas=deltas)


def base_of(tiny) -> Any:
    """Return a module that PEFT may change: for open_clip with the text tower as a part of its own."""
    if type(tiny.module).__name__ != "CLIP":
        return copy.deepcopy(tiny.module)
    import open_clip

    where = f"local-dir:{tiny.folder}"
    module = open_clip.create_model_and_transforms(where, precision="fp32", force_custom_text=True)[0]
    return module.eval().requires_grad_(False)


def embed(tiny, module: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embeddings that a module itself gives, through the library's own calls."""
    if tiny.model.adapter.family == "openclip":
        return module.encode_image(pixels), module.encode_text(tiny.tokenizer(SENTENCES))
    tokens = dict(tiny.model.adapter.tokenize(SENTENCES))
    found = module.get_image_features(pixel_values=pixels), module.get_text_features(**tokens)
    images, texts = (each if isinstance(each, torch.Tensor) else each.pooler_output for each in found)
    return images, texts


def load(tiny, folder) -> Any:
    return peft.PeftModel.from_pretrained(base_of(tiny), folder)


@torch.no_grad()
def test_stock_peft_gives_the_edited_model_and_the_base_model(tiny, pixels, tmp_path):
    patch = random_patch(tiny)
    peft_files.write(tmp_path, peft_files.parts(tiny.model, patch), BASE, tiny.module)
    edited, plain = patch.apply(tiny.model), base_of(tiny)
    model = load(tiny, tmp_path)
    images, texts = embed(tiny, model, pixels)
    torch.testing.assert_close(images, edited.images(pixels), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(texts, edited.texts(SENTENCES), rtol=1e-4, atol=1e-4)
    before = embed(tiny, plain, pixels)
    assert all(float((one - other).abs().max()) > 0.1 for one, other in zip((images, texts), before, strict=True))
    with model.disable_adapter():
        off = embed(tiny, model, pixels)
    assert all(torch.equal(one, other) for one, other in zip(off, before, strict=True))


@torch.no_grad()
def test_merging_makes_the_baked_weights(tiny, tmp_path):
    patch = random_patch(tiny)
    peft_files.write(tmp_path, peft_files.parts(tiny.model, patch), BASE, tiny.module)
    merged = load(tiny, tmp_path).merge_and_unload().state_dict()
    edited = patch.apply(tiny.model).weights
    for name in patch.deltas:
        there = name if name in merged else f"text.{name}"
        torch.testing.assert_close(merged[there], edited[name], rtol=1e-5, atol=1e-5)


def config(tiny, patch: Patch, folder) -> dict[str, Any]:
    peft_files.write(folder, peft_files.parts(tiny.model, patch), BASE, tiny.module)
    return json.loads((folder / peft_files.CONFIG_FILE).read_text())


def test_the_configuration_of_linear_layers(tiny_clip, tmp_path):
    found = config(tiny_clip, random_patch(tiny_clip), tmp_path)
    assert (found["peft_type"], found["r"], found["lora_alpha"], found["lora_dropout"]) == ("LORA", 3, 3, 0.0)
    assert found["target_modules"] == ["text_projection", "visual_projection"]
    assert found["rank_pattern"] == found["alpha_pattern"] == {"^visual_projection": 2}
    assert (found["base_model_name_or_path"], found["revision"]) == ("org/base", "abc")
    assert (found["bias"], found["inference_mode"], found["lora_bias"]) == ("none", True, False)
    assert found["auto_mapping"]["base_model_class"] == "CLIPModel"


def test_the_configuration_of_bare_parameters(tiny_openclip, tmp_path):
    found = config(tiny_openclip, random_patch(tiny_openclip), tmp_path)
    assert found["target_modules"] == []
    assert found["target_parameters"] == ["text.text_projection", "visual.proj"]
    assert found["rank_pattern"] == {}  # PEFT takes none for bare parameters, so ranks are made equal
    assert found["auto_mapping"] is None


def test_the_names_of_the_tensors(tiny_clip, tmp_path):
    import safetensors.torch

    config(tiny_clip, random_patch(tiny_clip), tmp_path)
    named = safetensors.torch.load_file(tmp_path / peft_files.WEIGHTS_FILE)
    assert {name: tuple(tensor.shape) for name, tensor in named.items()} == {
        "base_model.model.visual_projection.lora_A.weight": (2, 24),
        "base_model.model.visual_projection.lora_B.weight": (16, 2),
        "base_model.model.text_projection.lora_A.weight": (3, 24),
        "base_model.model.text_projection.lora_B.weight": (16, 3),
    }


def test_stock_peft_saves_the_same_names(tiny_clip, tmp_path):
    import safetensors.torch

    (tmp_path / "ours").mkdir()
    found = peft_files.parts(tiny_clip.model, random_patch(tiny_clip))
    peft_files.write(tmp_path / "ours", found, Base(where=str(tiny_clip.folder)), tiny_clip.module)
    load(tiny_clip, tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    ours, theirs = (safetensors.torch.load_file(tmp_path / one / peft_files.WEIGHTS_FILE) for one in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_layer_whose_name_ends_like_ours_is_not_touched(tiny_clip, pixels, tmp_path):
    module = copy.deepcopy(tiny_clip.module)
    module.extra = nn.ModuleDict({"visual_projection": nn.Linear(24, 16)})
    patch = random_patch(tiny_clip)
    peft_files.write(tmp_path, peft_files.parts(tiny_clip.model, patch), BASE, module)
    found = json.loads((tmp_path / peft_files.CONFIG_FILE).read_text())
    assert found["target_modules"] == "text_projection|visual_projection"
    model = peft.PeftModel.from_pretrained(module, tmp_path)
    assert type(model.base_model.model.extra["visual_projection"]) is nn.Linear
    assert type(model.base_model.model.visual_projection).__name__ == "Linear"
    images, _ = embed(tiny_clip, model, pixels)
    torch.testing.assert_close(images, patch.apply(tiny_clip.model).images(pixels), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_layers_inside_an_encoder_of_transformers(tiny_clip, pixels, tmp_path):
    name = "vision_model.encoder.layers.1.mlp.fc1.weight"
    patch = Patch(deltas={name: LowRank(left=draw(32, 2), right=draw(2, 24, seed=1))})
    peft_files.write(tmp_path, peft_files.parts(tiny_clip.model, patch), BASE, tiny_clip.module)
    images, _ = embed(tiny_clip, load(tiny_clip, tmp_path), pixels)
    torch.testing.assert_close(images, patch.apply(tiny_clip.model).images(pixels), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(images, tiny_clip.model.images(pixels), atol=1e-2)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*lora_bias=True.*")
def test_an_offset_that_does_not_fold_becomes_the_bias_of_the_adapter(tiny_clip, pixels, tmp_path):
    output = AffineMap(down=draw(16, 2), up=draw(2, 16, seed=1), offset=draw(16, seed=2))
    patch = Patch(outputs={"image": output}, deltas=dict(random_patch(tiny_clip).deltas))
    del patch.deltas["visual_projection.weight"]
    assert not patch.folded(tiny_clip.model).portable
    peft_files.write(tmp_path, peft_files.parts(tiny_clip.model, patch), BASE, tiny_clip.module)
    model, edited = load(tiny_clip, tmp_path), patch.apply(tiny_clip.model)
    images, texts = embed(tiny_clip, model, pixels)
    torch.testing.assert_close(images, edited.images(pixels), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(texts, edited.texts(SENTENCES), rtol=1e-4, atol=1e-4)
    with model.disable_adapter():
        assert torch.equal(embed(tiny_clip, model, pixels)[0], tiny_clip.model.images(pixels))


@torch.no_grad()
def test_a_bias_that_changes_with_its_weight(tiny_clip, pixels, tmp_path):
    name = "vision_model.encoder.layers.1.mlp.fc1"
    change = LowRank(left=draw(32, 2), right=draw(2, 24, seed=1))
    patch = Patch(deltas={f"{name}.weight": change, f"{name}.bias": draw(32, seed=2)})
    peft_files.write(tmp_path, peft_files.parts(tiny_clip.model, patch), BASE, tiny_clip.module)
    model, wanted = load(tiny_clip, tmp_path), patch.apply(tiny_clip.model).images(pixels)
    torch.testing.assert_close(embed(tiny_clip, model, pixels)[0], wanted, rtol=1e-4, atol=1e-4)
    merged = model.merge_and_unload()
    torch.testing.assert_close(embed(tiny_clip, merged, pixels)[0], wanted, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_dense_change_is_cut_only_when_asked(tiny_clip, pixels, tmp_path):
    patch = Patch(deltas={"visual_projection.weight": draw(16, 24)})
    with pytest.raises(UnsupportedError, match=r"changes as a whole.*--to hf.*--rank N\.$"):
        peft_files.parts(tiny_clip.model, patch)
    (part,) = peft_files.parts(tiny_clip.model, patch, rank=4)
    assert part.rank == 4
    assert 0.1 < part.missed < 1.0
    (whole,) = peft_files.parts(tiny_clip.model, patch, rank=16)
    assert whole.missed < 1e-6
    peft_files.write(tmp_path, [whole], BASE, tiny_clip.module)
    images, _ = embed(tiny_clip, load(tiny_clip, tmp_path), pixels)
    torch.testing.assert_close(images, patch.apply(tiny_clip.model).images(pixels), rtol=1e-4, atol=1e-4)


MAP = AffineMap(down=draw(16, 1), up=draw(1, 16), offset=draw(16))


@pytest.mark.parametrize(
    ("family", "patch", "said"),
    [
        ("tiny_clip", Patch(), "changes nothing"),
        ("tiny_clip", Patch(deltas={"vision_model.encoder.layers.0.mlp.fc1.bias": draw(32)}), "mlp.fc1.bias' has no"),
        ("tiny_clip", Patch(deltas={"vision_model.pre_layrnorm.weight": draw(24)}), "no layer that a stock adapter"),
        ("tiny_clip", Patch(deltas={"logit_scale": torch.ones(())}), "'logit_scale' is in no layer"),
        (
            "tiny_clip",
            Patch(deltas={"visual_projection.weight": draw(16, 24)}, outputs={"image": MAP}),
            "maps the output of the image tower",
        ),
        ("tiny_openclip", Patch(outputs={"image": MAP}), "maps the output of the image tower"),
        (
            "tiny_openclip",
            Patch(
                deltas={"visual.transformer.resblocks.0.mlp.c_fc.weight": LowRank(left=draw(96, 1), right=draw(1, 24))}
            ),
            "no layer that a stock adapter",
        ),
        (
            "tiny_openclip",
            Patch(
                deltas={
                    "visual.transformer.resblocks.0.attn.in_proj_weight": LowRank(left=draw(72, 1), right=draw(1, 24))
                }
            ),
            "no layer that a stock adapter",
        ),
    ],
)
def test_what_stock_peft_cannot_carry_is_refused_with_the_way_out(family, patch, said, request):
    tiny = request.getfixturevalue(family)
    with pytest.raises(UnsupportedError, match=re.escape(said)) as refused:
        peft_files.parts(tiny.model, patch)
    assert str(refused.value).endswith((".", "opened."))


def open_clip_model(**vision: Any) -> Any:
    open_clip = pytest.importorskip("open_clip")
    from clip_unlearn.models import openclip

    text = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1, "proj_bias": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = open_clip.CLIP(embed_dim=16, vision_cfg={"image_size": 32, **vision}, text_cfg=text)
    module.visual.preprocess_cfg = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return openclip.wrap(module, tokenizer, lambda _: torch.zeros(3, 32, 32), source=Source(where="test"))


@pytest.mark.parametrize("name", ["visual.attnpool.c_proj.weight", "text_projection.weight"])
def test_layers_that_open_clip_reads_past_are_refused(name):
    """PEFT would load an adapter for them and change nothing, or break the model."""
    model = open_clip_model(layers=(1, 1, 1, 1), width=8, head_width=8)
    rows, columns = model.weights[name].shape
    patch = Patch(deltas={name: LowRank(left=draw(rows, 1), right=draw(1, columns))})
    with pytest.raises(UnsupportedError, match="no layer that a stock adapter changes"):
        peft_files.parts(model, patch)


def test_a_part_knows_where_it_goes():
    change = LowRank(left=draw(4, 2), right=draw(2, 3))
    assert Part(name="a.b", change=change).key == "base_model.model.a.b"
    assert Part(name="visual.proj", change=change, bare=True).key == "base_model.model.visual"
    assert Part(name="a.b", change=change).rank == 2
