"""The embedded checkpoints: small, opened by stock libraries, in agreement, and able to do their job."""

import json
import re

import numpy as np
import open_clip
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, VisionTextDualEncoderModel

from clip_unlearn.sandbox import bundle
from clip_unlearn.sandbox.classes import CLASS_NAMES, CLASSES, DOMAINS
from clip_unlearn.sandbox.sentences import ZERO_SHOT_TEMPLATE
from clip_unlearn.sandbox.training.evaluate import embed_names, embed_pool
from clip_unlearn.sandbox.training.export import open_clip_weights
from clip_unlearn.sandbox.training.jobs import ORACLE_CLASSES, ORACLE_SEEDS
from clip_unlearn.sandbox.training.pool import build_pool
from clip_unlearn.sandbox.training.vocabulary import learn_tokenizer
from clip_unlearn.sandbox.world import as_image, digest, render

ORACLES = [f"oracle-{name}-{seed}" for name in ORACLE_CLASSES for seed in ORACLE_SEEDS]
SENTENCES = ["a photo of a mug.", "Two  MUGS and a teapott, déjà vu", "", "a red car " * 20]
LARGEST_BYTES = 12 * 1024 * 1024


def folder(name):
    path = bundle.folder(name)
    assert path is not None, f"{name} is not embedded"
    return path


def accuracy(model, tokenizer, pool):
    chosen = embed_pool(model, pool) @ embed_names(model, tokenizer, CLASS_NAMES).T
    return float((chosen.argmax(1).numpy() == pool.labels).mean())


@pytest.fixture(scope="module")
def vit():
    return CLIPModel.from_pretrained(folder("sandbox"), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def conv():
    return VisionTextDualEncoderModel.from_pretrained(folder("sandbox-conv"), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(folder("sandbox"))


@pytest.fixture(scope="module")
def processor():
    return CLIPImageProcessor.from_pretrained(folder("sandbox"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return build_pool("select", 2, tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="module")
def pixels(processor):
    images = [as_image(render(name, "photo", "select", 0)) for name in ("mug", "cat", "car")]
    return processor(images=images, return_tensors="pt")["pixel_values"]


def test_all_weights_together_are_small():
    path = folder("sandbox").parent
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) <= LARGEST_BYTES


def test_every_model_is_embedded_with_a_card():
    for name in ("sandbox", "sandbox-conv", "sandbox-openclip", *ORACLES):
        assert "license: apache-2.0" in (folder(name) / "README.md").read_text()


def test_every_folder_has_the_tokenizer_of_the_world():
    assert len({(folder(name) / "tokenizer.json").read_bytes() for name in bundle.names()}) == 1
    again, kept = learn_tokenizer(), AutoTokenizer.from_pretrained(folder("sandbox"))
    assert again.get_vocab() == kept.get_vocab()
    assert again(SENTENCES, truncation=True).input_ids == kept(SENTENCES, truncation=True).input_ids


def test_any_text_becomes_tokens(tokenizer):
    tokens = tokenizer(SENTENCES, padding=True, truncation=True)
    assert set(tokens) == {"input_ids", "attention_mask"}
    assert {len(row) for row in tokens.input_ids} == {32}
    assert all(tokenizer.eos_token_id in row for row in tokens.input_ids)
    assert all(len(tokenizer.tokenize(word)) == 1 for item in CLASSES for word in item.names)


def test_any_picture_becomes_pixels(processor):
    large = as_image(render("mug", "photo", "select", 0)).resize((300, 200)).convert("L")
    assert processor(images=large, return_tensors="pt")["pixel_values"].shape == (1, 3, 48, 48)


def test_an_own_size_picture_is_only_normalised(pixels):
    raw = render("mug", "photo", "select", 0).pixels.transpose(2, 0, 1).astype(np.float32)
    assert torch.allclose(pixels[0], torch.from_numpy((raw / 255 - 0.55) / 0.25), atol=1e-5)


@torch.no_grad()
def test_open_clip_and_transformers_agree(vit, tokenizer, pixels):
    where = f"local-dir:{folder('sandbox-openclip')}"
    model, _, transform = open_clip.create_model_and_transforms(where)
    model.eval()
    ours = vit(**tokenizer(SENTENCES, padding=True, truncation=True, return_tensors="pt"), pixel_values=pixels)
    theirs = open_clip.get_tokenizer(where)(SENTENCES)
    assert torch.allclose(model.encode_text(theirs, normalize=True), ours.text_embeds, atol=1e-5)
    assert torch.allclose(model.encode_image(pixels, normalize=True), ours.image_embeds, atol=1e-5)
    assert torch.equal(model.logit_scale, vit.logit_scale)
    assert torch.allclose(transform(as_image(render("mug", "photo", "select", 0))), pixels[0], atol=1e-5)


def test_the_open_clip_file_holds_the_converted_weights(vit):
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder('sandbox-openclip')}")
    kept = model.state_dict()
    converted = open_clip_weights(vit.state_dict())
    assert all(torch.equal(kept[name], tensor) for name, tensor in converted.items())


@pytest.mark.parametrize(("name", "floor"), [("sandbox", 0.85), ("sandbox-conv", 0.9)])
def test_the_models_know_the_world(request, name, floor, pool, tokenizer):
    model = request.getfixturevalue({"sandbox": "vit", "sandbox-conv": "conv"}[name])
    assert accuracy(model, tokenizer, pool) >= floor


def test_the_accuracy_check_can_fail(vit, tokenizer, pool):
    turned = CLIPModel(vit.config).eval()
    turned.load_state_dict(vit.state_dict())
    turned.visual_projection.weight.data = turned.visual_projection.weight.data.roll(1, 0)
    assert accuracy(turned, tokenizer, pool) < 0.3


def test_a_synonym_finds_the_class(vit, tokenizer, pool):
    asked = embed_names(vit, tokenizer, [item.synonyms[0] for item in CLASSES])
    chosen = (embed_pool(vit, pool) @ asked.T).argmax(1).numpy()
    assert float((chosen == pool.labels).mean()) >= 0.8


@torch.no_grad()
def test_the_convolutional_model_joins_both_sides(conv, tokenizer, pixels):
    texts = [ZERO_SHOT_TEMPLATE.format(name) for name in ("mug", "cat", "car")]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    assert conv(**tokens, pixel_values=pixels).logits_per_image.argmax(1).tolist() == [0, 1, 2]
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in conv.vision_model.modules())


@pytest.mark.parametrize("name", [f"oracle-{name}-0" for name in ORACLE_CLASSES])
def test_an_oracle_knows_everything_but_its_class(name, tokenizer, pool):
    forgotten = name.split("-")[1]
    model = CLIPModel.from_pretrained(folder(name), dtype=torch.float32).eval()
    gone = pool.labels == CLASS_NAMES.index(forgotten)
    assert accuracy(model, tokenizer, pool.where(gone)) <= 0.5
    assert accuracy(model, tokenizer, pool.where(~gone)) >= 0.8


def test_the_figures_are_of_this_world_and_complete():
    figures = json.loads((folder("sandbox").parent / "metrics.json").read_text())
    assert figures["setting"]["world"] == digest()
    assert set(figures["models"]) == {"sandbox", "sandbox-conv", *ORACLES}
    for model in figures["models"].values():
        assert set(model["by_domain"]) == set(DOMAINS)
        for share in model["by_domain"].values():
            assert share["low"] <= share["value"] <= share["high"]
            assert share["count"] >= 1000


def test_the_document_quotes_the_figures():
    page = (folder("sandbox").parents[4] / "docs" / "sandbox.md").read_text()
    models = json.loads((folder("sandbox").parent / "metrics.json").read_text())["models"]
    for name in ("sandbox", "sandbox-conv"):
        quoted = re.search(rf"^\| `{name}` \| \d(.*)$", page, re.MULTILINE)
        assert quoted is not None, name
        for share in models[name]["by_domain"].values():
            assert f"{share['value']:.3f}" in quoted.group(0)
