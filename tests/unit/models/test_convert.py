"""A plain CLIP from one library to the other and back: the same numbers, or a refusal with the reason."""

import json
from typing import Any

import pytest
import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.models import clip_layout, convert, openclip
from clip_unlearn.models.open import open_model

open_clip = pytest.importorskip("open_clip")

SENTENCES = ["a cat", "A Photo of a very old red  teapot, isn't it?"]


def same(before: Model, after: Model, pixels: torch.Tensor) -> None:
    torch.testing.assert_close(after.logits(pixels, SENTENCES), before.logits(pixels, SENTENCES), rtol=0, atol=1e-4)


def test_transformers_to_open_clip(tiny_clip, pixels, tmp_path):
    written = convert.write_open_clip(tiny_clip.model, tmp_path, SENTENCES)
    opened = open_model(tmp_path)
    assert opened.adapter.family == "openclip"
    assert opened.fingerprint == written.fingerprint
    same(tiny_clip.model, opened, pixels)


@torch.no_grad()
def test_open_clip_itself_opens_it(tiny_clip, pixels, tmp_path):
    convert.write_open_clip(tiny_clip.model, tmp_path, SENTENCES)
    where = f"local-dir:{tmp_path}"
    module, _, transform = open_clip.create_model_and_transforms(where, precision="fp32")
    texts = module.eval().encode_text(open_clip.get_tokenizer(where)(SENTENCES))
    torch.testing.assert_close(texts, tiny_clip.model.texts(SENTENCES), rtol=1e-4, atol=1e-4)
    images = module.encode_image(pixels)
    torch.testing.assert_close(images, tiny_clip.model.images(pixels), rtol=1e-4, atol=1e-4)
    ours = tiny_clip.model.adapter.prepare([convert._picture()])
    assert float((transform(convert._picture())[None] - ours).abs().max()) < convert.PIXEL_TOLERANCE


@pytest.mark.parametrize("family", ["tiny_openclip", "tiny_openclip_custom"])
def test_open_clip_to_transformers_with_its_own_tokenizer(family, pixels, tmp_path, request):
    tiny = request.getfixturevalue(family)
    written = convert.write_transformers(tiny.model, tmp_path, SENTENCES)
    opened = open_model(tmp_path)
    assert type(opened.module).__name__ == "CLIPModel"
    assert opened.fingerprint == written.fingerprint
    same(tiny.model, opened, pixels)


def test_there_and_back_gives_the_same_weights(tiny_clip, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    convert.write_open_clip(tiny_clip.model, there, SENTENCES)
    convert.write_transformers(open_model(there), back, SENTENCES)
    assert open_model(back).encoder_fingerprint == tiny_clip.model.encoder_fingerprint


def hf_config(tiny_clip: Any, side: str = "text_config", **settings: Any) -> Any:
    import copy

    config = copy.deepcopy(tiny_clip.module.config)
    for name, value in settings.items():
        setattr(getattr(config, side), name, value)
    return config


def test_the_end_of_a_sentence_is_the_largest_token_or_a_named_one(tiny_clip):
    words = tiny_clip.module.config.text_config.vocab_size
    for end, kept in ((2, {}), (words - 1, {}), (5, {"pool_type": "eos", "eos_id": 5})):
        found = clip_layout.open_clip_settings(hf_config(tiny_clip, eos_token_id=end), pad=0)["text_cfg"]
        assert {name: found[name] for name in ("pool_type", "eos_id") if name in found} == kept


@pytest.mark.parametrize(
    ("side", "settings", "said"),
    [
        ("text_config", {"hidden_act": "relu"}, "activation"),
        ("vision_config", {"hidden_act": "silu"}, "activation 'silu'"),
        ("text_config", {"layer_norm_eps": 1e-6}, "epsilon"),
    ],
)
def test_settings_that_open_clip_does_not_have(tiny_clip, side, settings, said):
    with pytest.raises(UnsupportedError, match=said):
        clip_layout.open_clip_settings(hf_config(tiny_clip, side, **settings), pad=0)


def test_the_activation_is_taken_along(tiny_clip):
    config = hf_config(tiny_clip, "text_config", hidden_act="gelu")
    config.vision_config.hidden_act = "gelu"
    assert clip_layout.open_clip_settings(config, pad=0)["quick_gelu"] is False
    assert clip_layout.open_clip_settings(tiny_clip.module.config, pad=0)["quick_gelu"] is True


def test_a_dual_encoder_has_no_counterpart(tiny_dual, tmp_path):
    with pytest.raises(UnsupportedError, match=r"open_clip has no VisionTextDualEncoderModel\. Export it with --to hf"):
        convert.write_open_clip(tiny_dual.model, tmp_path, SENTENCES)


VIT = {"image_size": 32, "layers": 1, "width": 24, "head_width": 12, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2}


def build(vision: dict[str, Any], text: dict[str, Any], **more: Any) -> Model:
    settings = {"embed_dim": 16, "vision_cfg": {**VIT, **vision}, "text_cfg": {**TEXT, **text}, **more}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = open_clip.CLIP(**settings)
    module.visual.preprocess_cfg = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    transform = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(size=32), is_train=False)
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return openclip.wrap(module, tokenizer, transform, source=Source(where="test"), config=settings)


@pytest.mark.parametrize(
    ("vision", "text", "more", "said"),
    [
        ({"no_ln_pre": True}, {}, {}, "the setting 'no_ln_pre'"),
        ({"pool_type": "avg"}, {}, {}, "the setting 'pool_type'"),
        ({"layers": [1, 1, 1, 1], "width": 8, "head_width": 8}, {}, {}, "convolutional"),
        ({}, {"no_causal_mask": True}, {}, "the setting 'no_causal_mask'"),
        ({}, {"proj_bias": True}, {}, "the setting 'proj_bias'"),
        ({}, {}, {"init_logit_bias": -10.0}, "'logit_bias' has no place"),
        ({}, {"pool_type": "last"}, {}, "embeddings of sentences"),
    ],
)
def test_towers_that_transformers_does_not_have(vision, text, more, said, tmp_path):
    with pytest.raises(UnsupportedError, match=said):
        convert.write_transformers(build(vision, text, **more), tmp_path, SENTENCES)


def test_a_difference_that_no_rule_foresaw_is_found(tiny_clip, tmp_path, monkeypatch):
    """The converted folder is opened and compared, so a mistake in the conversion is a refusal and not a bad model."""
    right = clip_layout.to_open_clip

    def wrong(weights: Any) -> dict[str, torch.Tensor]:
        named = right(weights)
        return {**named, "visual.proj": named["visual.proj"].roll(1, dims=0)}

    monkeypatch.setattr(clip_layout, "to_open_clip", wrong)
    with pytest.raises(UnsupportedError, match=r"other embeddings of pictures \(by .*\), so the other library"):
        convert.write_open_clip(tiny_clip.model, tmp_path, SENTENCES)


def test_pictures_that_are_prepared_otherwise_are_found(tiny_clip, tmp_path, monkeypatch):
    right = convert._open_clip_pixels
    monkeypatch.setattr(convert, "_open_clip_pixels", lambda saved: {**right(saved), "resize_mode": "squash"})
    with pytest.raises(UnsupportedError, match="other pixels"):
        convert.write_open_clip(tiny_clip.model, tmp_path, SENTENCES)


PROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 32},
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.5, 0.5, 0.5],
}


def test_preprocessing_by_crop_and_by_squash():
    assert convert._open_clip_pixels(PROCESSOR) == {
        "size": 32,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    squash = {**PROCESSOR, "do_center_crop": False, "size": {"height": 32, "width": 32}, "do_normalize": False}
    found = convert._open_clip_pixels({**squash, "resample": 2})
    assert (found["resize_mode"], found["interpolation"], found["mean"]) == ("squash", "bilinear", [0.0] * 3)


@pytest.mark.parametrize(
    "other",
    [
        {"do_resize": False},
        {"size": {"shortest_edge": 40}},
        {"do_center_crop": False},
        {"resample": 4},
        {"crop_size": {"height": 32, "width": 30}},
    ],
)
def test_preprocessing_that_open_clip_does_not_have(other):
    with pytest.raises(UnsupportedError, match="cannot prepare pictures"):
        convert._open_clip_pixels({**PROCESSOR, **other})


def test_a_missing_and_a_spare_weight_are_named(tiny_clip):
    weights = dict(tiny_clip.module.state_dict())
    del weights["vision_model.pre_layrnorm.bias"]
    with pytest.raises(UnsupportedError, match=r"no weight 'vision_model\.pre_layrnorm\.bias'"):
        clip_layout.to_open_clip(weights)
    spare = {**tiny_clip.module.state_dict(), "spare": torch.ones(1)}
    with pytest.raises(UnsupportedError, match="'spare' has no place"):
        clip_layout.to_open_clip(spare)


def test_the_configuration_points_at_the_tokenizer_beside_it(tiny_clip, tmp_path):
    convert.write_open_clip(tiny_clip.model, tmp_path, SENTENCES)
    settings = json.loads((tmp_path / openclip.CONFIG).read_text())
    assert settings["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "local"
    assert (tmp_path / "tokenizer.json").is_file()
