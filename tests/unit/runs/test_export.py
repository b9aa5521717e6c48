"""Exported folders: which form, which base model, what their cards say, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clip_unlearn.core.embedding_map import reach
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Origin, Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import OutputError, SettingError, UnknownNameError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.bases import reference
from clip_unlearn.runs.export import export


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def opened(tiny) -> Model:
    """Return the tiny model as a user opens it: from its folder."""
    return open_model(tiny.folder)


def patch_for(model: Model) -> Patch:
    patch = Patch(outputs={"image": remove_directions(draw(2, 16), strength=0.8)}).folded(model)
    origin = Origin(
        method="project",
        settings={"strength": 0.8},
        request=Request(forget=(Concept(name="teapot"),)),
        base=Source(where=model.source.where, digest=model.fingerprint),
        version="0.1",
        touches=patch.touches,
        reach=reach(patch, model),
    )
    return replace(patch, origin=origin)


@pytest.mark.parametrize("to", ["hf", "open_clip"])
@pytest.mark.parametrize("family", ["tiny_clip", "tiny_openclip"])
def test_a_checkpoint_of_either_library_is_the_edited_model(family, to, pixels, tmp_path, request):
    model = opened(request.getfixturevalue(family))
    patch = patch_for(model)
    done = export(model, patch, tmp_path / "out", to=to)
    found = open_model(tmp_path / "out")
    assert (found.adapter.family == "openclip") == (to == "open_clip")
    assert (done.form, done.edit, done.digest) == (to, "erase", found.fingerprint)
    sentences = ["a cat", "a photo of the red teapot"]
    wanted = patch.apply(model).logits(pixels, sentences)
    torch.testing.assert_close(found.logits(pixels, sentences), wanted, rtol=0, atol=1e-4)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Forgets: teapot. Method: project." in card
    assert "Kind: erase:" in card
    assert f'"edited_sha256": "{found.fingerprint}"' in card
    assert done.leaks[0].startswith("Copies of the base model that were published")
    assert any(line.startswith("The edit is a linear map that can be inverted") for line in done.leaks)
    assert all(f"- {line}" in card for line in done.leaks)
    assert str(tmp_path) not in card


def test_a_dual_encoder_stays_with_its_library(tiny_dual, tmp_path):
    model = opened(tiny_dual)
    export(model, patch_for(model), tmp_path / "out", to="hf")
    assert open_model(tmp_path / "out").fingerprint == patch_for(model).apply(model).fingerprint
    with pytest.raises(UnsupportedError, match="open_clip has no VisionTextDualEncoderModel"):
        export(model, patch_for(model), tmp_path / "other", to="open_clip")
    assert not (tmp_path / "other").exists()


def test_an_adapter_names_its_base_and_what_leaks(tiny, tmp_path):
    model = opened(tiny)
    done = export(model, patch_for(model), tmp_path / "out", to="peft")
    assert (done.edit, done.missed, done.digest) == ("suppress", 0.0, patch_for(model).apply(model).fingerprint)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny.folder)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "library_name: peft" in card
    assert "Kind: suppress:" in card
    assert f"path/to/{tiny.folder.name}" in card
    assert str(tiny.folder.parent) not in card
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_cut_change_says_what_it_leaves_out(tiny_clip, tmp_path):
    model = opened(tiny_clip)
    patch = Patch(deltas={"visual_projection.weight": draw(16, 24)})
    done = export(model, patch, tmp_path / "out", to="peft", rank=2)
    assert 0.5 < done.missed < 1
    assert f"{100 * done.missed:.2g} % of it (Frobenius)" in (tmp_path / "out" / "README.md").read_text()


def test_an_embedded_model_comes_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = open_model("sandbox")
    patch = Patch(outputs={"image": remove_directions(draw(1, 64), strength=0.5)})
    export(model, patch, Path("out"), to="peft")
    assert json.loads(Path("out/adapter_config.json").read_text())["base_model_name_or_path"] == "out/base"
    assert open_model(Path("out/base")).fingerprint == model.fingerprint
    assert str(tmp_path) not in Path("out/README.md").read_text()


def at(model: Model, where: str, revision: str = "", family: str = "hf_clip") -> Model:
    source = Source(where=where, revision=revision)
    return replace(model, source=source, adapter=replace(model.adapter, family=family))


@pytest.mark.parametrize(
    ("where", "revision", "family", "base", "arguments"),
    [
        ("org/model@main", "abc", "hf_clip", ("org/model", "abc"), '"org/model", revision="abc"'),
        ("hf:org/model", "abc", "hf_clip", ("org/model", "abc"), '"org/model", revision="abc"'),
        ("hf-hub:org/model", "abc", "openclip", ("org/model", "abc"), '"hf-hub:org/model"'),
        ("openclip:ViT-B-32,tag", "abc", "openclip", ("ViT-B-32,tag", "abc"), '"ViT-B-32", pretrained="tag"'),
        ("sandbox", "", "hf_clip", ("out/base", ""), 'f"{folder}/base"'),
        ("sandbox-openclip", "", "openclip", ("out/base", ""), 'f"local-dir:{folder}/base"'),
    ],
)
def test_how_a_base_is_named(tiny_clip, where, revision, family, base, arguments):
    found = reference(at(tiny_clip.model, where, revision, family), Path("out"))
    assert (found.base.where, found.base.revision) == base
    wanted = arguments
    if where.startswith("openclip:"):  # the tiny model has the older activation, which open_clip must be told
        wanted += ", force_quick_gelu=True" if quick(tiny_clip) else ""
    assert found.arguments == wanted


def quick(tiny) -> bool:
    return any(type(part).__name__ == "QuickGELU" for part in tiny.module.modules())


def test_an_open_clip_activation_is_named(tiny_openclip):
    from open_clip.transformer import QuickGELU

    module = torch.nn.Sequential(tiny_openclip.module, QuickGELU())
    model = replace(at(tiny_openclip.model, "openclip:ViT-B-32,openai", "abc", "openclip"), module=module)
    assert reference(model, Path("out")).arguments == '"ViT-B-32", pretrained="openai", force_quick_gelu=True'


def test_a_loaded_module_has_no_address(tiny_clip, tmp_path):
    patch = patch_for(tiny_clip.model)
    with pytest.raises(UnsupportedError, match=r"No one knows where 'CLIPModel' is\. Open the model by folder or hub"):
        export(tiny_clip.model, patch, tmp_path / "out", to="peft")
    assert not (tmp_path / "out").exists()


def test_wrong_arguments_and_used_folders(tiny_clip, tmp_path):
    model, patch = opened(tiny_clip), patch_for(opened(tiny_clip))
    with pytest.raises(
        UnknownNameError, match=r"Cannot export to 'pfet'\. Did you mean 'peft'\? Known: peft, hf, open"
    ):
        export(model, patch, tmp_path / "out", to="pfet")
    for to, rank in (("peft", 0), ("hf", 4)):
        with pytest.raises(SettingError, match=f"--rank {rank} is not usable"):
            export(model, patch, tmp_path / "out", to=to, rank=rank)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for to in ("peft", "hf", "open_clip"):
        with pytest.raises(OutputError, match="not empty"):
            export(model, patch, tmp_path / "out", to=to)
    export(model, patch, tmp_path / "out", to="peft", force=True)
    assert not (tmp_path / "out" / "mine.txt").exists()


@pytest.mark.parametrize("to", ["hf", "open_clip"])
def test_a_map_that_no_weight_holds_is_no_checkpoint(tiny_clip, to, tmp_path):
    model = opened(tiny_clip)
    patch = Patch(outputs={"image": AffineMap(down=draw(16, 1), up=draw(1, 16), offset=draw(16))})
    with pytest.raises(UnsupportedError, match="which no weight of this model can hold"):
        export(model, patch, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()
