"""Towers of open_clip beside the plain one: other texts, other readouts, published weights."""

import json
from typing import Any

import pytest
import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnsupportedError, WeightsError
from clip_unlearn.files import hub
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.models import openclip
from clip_unlearn.models.open import open_model

open_clip = pytest.importorskip("open_clip")

SENTENCES = ["a cat", "a photo of a very old red teapot"]
VIT = {"image_size": 32, "layers": 1, "width": 24, "head_width": 12, "patch_size": 16}
RESNET = {"image_size": 32, "layers": (1, 1, 1, 1), "width": 8, "head_width": 8}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}


def build(kind: str = "CLIP", vision: dict[str, Any] = VIT, **text: Any) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = getattr(open_clip, kind)(embed_dim=16, vision_cfg=vision, text_cfg={**TEXT, **text})
        for name, weight in module.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.1)
    module.visual.preprocess_cfg = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return openclip.wrap(module, tokenizer, lambda picture: torch.zeros(3, 32, 32), source=Source(where="test"))


TEXT_TOWERS = {
    "argmax": {},
    "the end token": {"pool_type": "eos", "eos_id": 49407},
    "the first token": {"pool_type": "first"},
    "the last token": {"pool_type": "last"},
    "attention both ways": {"no_causal_mask": True},
    "a linear readout with a bias": {"proj_bias": True},
    "no readout": {"proj_type": "none", "width": 16},
}


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize("settings", TEXT_TOWERS.values(), ids=TEXT_TOWERS)
@torch.no_grad()
def test_every_text_tower_reads_as_the_library_does(kind, settings):
    model = build(kind, **settings)
    expected = model.module.encode_text(open_clip.SimpleTokenizer(context_length=16)(SENTENCES))
    assert float((model.texts(SENTENCES) - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize("settings", TEXT_TOWERS.values(), ids=TEXT_TOWERS)
def test_features_and_readout_make_the_embedding(kind, settings):
    model = build(kind, **settings)
    readout, embeddings, features = model.readout("text"), model.texts(SENTENCES), model.text_features(SENTENCES)
    if readout is None:
        assert torch.equal(features, embeddings)
        return
    weight = model.weights[readout.weight]
    bias = 0 if readout.bias is None else model.weights[readout.bias]
    torch.testing.assert_close(features @ (weight if readout.transposed else weight.T) + bias, embeddings)


def test_a_resnet_has_a_readout_with_a_bias_into_which_maps_fold(pixels):
    model = build(vision=RESNET)
    assert model.readout("image").bias == "visual.attnpool.c_proj.bias"
    assert model.image_features(pixels) is None
    draw = torch.Generator().manual_seed(0)
    moved = AffineMap(
        down=torch.randn(16, 2, generator=draw), up=torch.randn(2, 16, generator=draw), offset=torch.ones(16)
    )
    patch = Patch(outputs={"image": moved})
    folded = patch.folded(model)
    assert folded.portable
    wanted = patch.apply(model).images(pixels)
    torch.testing.assert_close(folded.apply(model).images(pixels), wanted, rtol=1e-4, atol=1e-4)


def test_no_open_clip_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(UnsupportedError, match=r"Install it with: pip install 'clip-unlearn\[openclip\]'\.$"):
        openclip.library()


@pytest.fixture
def published(monkeypatch, tmp_path, tiny_openclip):
    """Publish the tiny model under a name of open_clip, with an entry that says how it was trained."""
    settings = json.loads((tiny_openclip.folder / openclip.CONFIG).read_text())["model_cfg"]
    entry = {
        "hf_hub": "org/tiny/",
        "quick_gelu": True,
        "mean": (0.1,) * 3,
        "std": (0.2,) * 3,
        "interpolation": "bicubic",
    }
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"tiny": settings})
    monkeypatch.setattr(open_clip, "list_pretrained", lambda: [("tiny", "here"), ("tiny", "pickled")])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda _, tag: entry if tag == "here" else {"url": "x.pt"})
    found = hub.Snapshot(folder=tiny_openclip.folder, revision="abc")
    monkeypatch.setattr(hub, "snapshot", lambda *_, **__: found)
    return entry


def test_published_weights_come_with_the_activation_and_pixels_of_their_entry(published, tiny_openclip, pixels):
    model = open_model("openclip:tiny,here")
    assert model.source.revision == "abc"
    assert model.encoder_fingerprint == tiny_openclip.model.encoder_fingerprint
    assert any(type(part).__name__ == "QuickGELU" for part in model.module.modules())
    assert not torch.equal(model.images(pixels), tiny_openclip.model.images(pixels))
    assert model.module.visual.preprocess_cfg["mean"] == (0.1,) * 3
    published["quick_gelu"] = False
    plain = open_model("openclip:tiny,here")
    assert torch.equal(plain.images(pixels), tiny_openclip.model.images(pixels))


def test_weights_published_as_pickle_only_are_refused(published):
    with pytest.raises(WeightsError, match=r"published as pickle only\. Choose weights with a hub repository\.$"):
        open_model("openclip:tiny,pickled")


def test_a_hub_repository_of_open_clip(published, tiny_openclip):
    model = open_model("hf-hub:org/tiny")
    assert model.encoder_fingerprint == tiny_openclip.model.encoder_fingerprint
    assert (model.source.where, model.source.revision) == ("hf-hub:org/tiny", "abc")


def test_a_published_model_is_saved_with_its_settings(published, tmp_path, pixels):
    model = open_model("openclip:tiny,here")
    model.adapter.save(model.module, tmp_path)
    again = openclip.open_folder(tmp_path, Source(where="test"))
    torch.testing.assert_close(again.images(pixels), model.images(pixels), rtol=0, atol=1e-5)
