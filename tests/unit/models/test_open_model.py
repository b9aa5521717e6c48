"""The one door: what it takes, and one line with the way out for what it refuses."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from torch import nn

from clip_unlearn.errors import InputError, UnknownNameError, UnsupportedError, WeightsError
from clip_unlearn.models.open import open_model

WEIGHTS = {"tiny_clip": "model.safetensors", "tiny_openclip": "open_clip_model.safetensors"}
CONFIGS = {"tiny_clip": "config.json", "tiny_openclip": "open_clip_config.json"}


@pytest.fixture(params=list(WEIGHTS))
def family(request):
    return request.param


@pytest.fixture
def folder(request, family, tmp_path):
    copy = tmp_path / "checkpoint"
    shutil.copytree(request.getfixturevalue(family).folder, copy)
    return copy


def refusal(where, kind=WeightsError, **options) -> str:
    with pytest.raises(kind) as caught:
        open_model(where, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_model_is_returned_as_it_is(tiny_clip):
    assert open_model(tiny_clip.model) is tiny_clip.model


def test_a_path_and_its_text_are_alike(folder):
    first, second = open_model(folder), open_model(str(folder))
    assert first.fingerprint == second.fingerprint
    assert second.source.where == str(folder)


def test_a_half_precision_checkpoint_is_opened_in_float32(folder, family):
    path = folder / WEIGHTS[family]
    halves = {name: weight.half() for name, weight in safetensors.torch.load_file(path).items()}
    safetensors.torch.save_file(halves, path, metadata={"format": "pt"})
    assert {weight.dtype for weight in open_model(folder).weights.values() if weight.is_floating_point()} == {
        torch.float32
    }


def test_a_missing_key_is_named(folder, family):
    path = folder / WEIGHTS[family]
    weights = safetensors.torch.load_file(path)
    gone = next(name for name in weights if name.endswith(("visual_projection.weight", "visual.proj")))
    safetensors.torch.save_file(
        {name: weights[name] for name in weights if name != gone}, path, metadata={"format": "pt"}
    )
    assert gone in refusal(folder)


def test_a_weight_of_another_shape_is_named(folder, family):
    path = folder / WEIGHTS[family]
    weights = safetensors.torch.load_file(path)
    odd = next(name for name in weights if name.endswith(("visual_projection.weight", "visual.proj")))
    safetensors.torch.save_file({**weights, odd: torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    assert odd in refusal(folder)


def test_nan_is_refused(folder, family):
    path = folder / WEIGHTS[family]
    weights = safetensors.torch.load_file(path)
    weights["logit_scale"] = torch.tensor(float("nan"))
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    assert "'logit_scale' holds NaN or infinity. Fetch the file again." in refusal(folder)


def test_a_truncated_file_is_refused(folder, family):
    path = folder / WEIGHTS[family]
    path.write_bytes(path.read_bytes()[:-10])
    assert "is not a sound safetensors file" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "open_clip_pytorch_model.bin", "model.pt"])
def test_a_folder_with_pickles_only_is_refused(folder, family, name):
    (folder / WEIGHTS[family]).unlink()
    (folder / name).write_bytes(b"never opened")
    assert refusal(folder).endswith(
        f"{name} is a pickle file, which can run code when opened. Convert it to .safetensors."
    )


def test_no_weights_at_all(folder, family):
    (folder / WEIGHTS[family]).unlink()
    what = "open_clip_model.safetensors" if family == "tiny_openclip" else ".safetensors file"
    assert f"has no {what}. Give a complete" in refusal(folder)


@pytest.mark.parametrize("missing", ["preprocessor_config.json", "tokenizer.json"])
def test_a_missing_companion_file_is_refused(tiny_clip, tmp_path, missing):
    shutil.copytree(tiny_clip.folder, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / missing).unlink()
    refusal(tmp_path / "checkpoint")


@pytest.mark.parametrize("config", ["{", "[]", "3", '{"model_type": "bert"}', "{}", '{"model_type": ["clip"]}'])
def test_an_unknown_or_broken_config_is_refused(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    refusal(tmp_path, InputError)


def test_an_unknown_type_lists_the_known(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert refusal(tmp_path, UnsupportedError).endswith(
        "holds a model of type 'bert'. Supported types: clip, vision-text-dual-encoder, and open_clip models."
    )


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"model_cfg": {}}'])
def test_a_broken_open_clip_config_is_refused(tiny_openclip, tmp_path, config):
    shutil.copytree(tiny_openclip.folder, tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / CONFIGS["tiny_openclip"]).write_text(config)
    refusal(tmp_path / "checkpoint")


def test_an_empty_folder(tmp_path):
    assert "has no config.json. Give a checkpoint folder of transformers or open_clip." in refusal(tmp_path)


@pytest.mark.parametrize("word", ["sandbx", "nothing-like-it"])
def test_a_bare_word_is_no_hub_id(word, monkeypatch):
    monkeypatch.setattr("clip_unlearn.sandbox.bundle.names", lambda: ("sandbox", "sandbox-conv"))
    text = refusal(word, UnknownNameError)
    assert text.startswith(f"Unknown model '{word}'.")
    assert ("Did you mean 'sandbox'?" in text) == (word == "sandbx")
    assert text.endswith("or one of: sandbox, sandbox-conv.")


def test_a_folder_that_is_not_there(tmp_path):
    assert "does not exist. Give a folder that exists, or a hub id 'org/name'." in refusal(tmp_path / "nowhere")


def test_local_dir_opens_open_clip_folders(tiny_openclip):
    model = open_model(f"local-dir:{tiny_openclip.folder}")
    assert model.encoder_fingerprint == tiny_openclip.model.encoder_fingerprint
    assert open_model(f"openclip:local-dir:{tiny_openclip.folder}").fingerprint == model.fingerprint


def test_local_dir_needs_a_folder(tmp_path):
    assert "does not exist" in refusal(f"local-dir:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("where", "part"),
    [
        ("openclip:ViT-B-32", "Write openclip:ARCHITECTURE,WEIGHTS"),
        ("openclip:ViT-B-32,laion2b_s34b_b79", "Did you mean 'ViT-B-32,laion2b_s34b_b79k'?"),
    ],
)
def test_open_clip_names_are_checked(where, part):
    pytest.importorskip("open_clip")
    assert part in refusal(where, UnknownNameError)


def test_published_weights_that_are_not_cached_say_so(monkeypatch, tmp_path):
    pytest.importorskip("open_clip")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "is not in the local cache" in refusal("openclip:ViT-B-32,laion2b_s34b_b79k")
    assert "is not in the local cache" in refusal("hf-hub:org/name")
    assert "is not in the local cache" in refusal("org/name")


def test_a_loaded_module_needs_tokenizer_and_processor(tiny_clip):
    for partner in ({}, {"tokenizer": tiny_clip.tokenizer}, {"processor": tiny_clip.processor}):
        assert "Give both." in refusal(tiny_clip.module, UnsupportedError, **partner)


def test_a_module_that_is_no_clip(tiny_clip):
    text = refusal(nn.Linear(2, 2), UnsupportedError, tokenizer=tiny_clip.tokenizer, processor=tiny_clip.processor)
    assert text == "Linear is no CLIP model. Give one of transformers or open_clip."


def test_a_bare_open_clip_module_can_be_edited_but_not_saved(tiny_openclip, tmp_path):
    model = open_model(tiny_openclip.module, tokenizer=tiny_openclip.tokenizer, processor=tiny_openclip.processor)
    with pytest.raises(UnsupportedError, match=r"Open it by name to save it\.$"):
        model.adapter.save(model.module, tmp_path)
