"""Patch folders: saved and loaded to the bit, refused when damaged."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from clip_unlearn.core import patch_files
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Origin, Reading, Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import OutputError, WeightsError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import LowRank


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ORIGIN = Origin(
    method="project",
    settings={"strength": 0.5, "names": ("a", "b")},
    request=Request(forget=(Concept(name="cat", synonyms=("kitty",)),), retain=("dog",)),
    base=Source(where="org/model", digest="0" * 64),
    version="0.1",
)
PATCH = Patch(
    deltas={"layer.weight": LowRank(left=draw(3, 1), right=draw(1, 4)), "layer/odd name": draw(2, 2)},
    outputs={
        "image": AffineMap(down=draw(4, 1), up=draw(1, 4), offset=draw(4)),
        "text": AffineMap(down=draw(4, 0), up=draw(0, 4)),
    },
    reason="",
    origin=ORIGIN,
)


def parts(patch: Patch) -> dict[str, torch.Tensor]:
    return patch_files._packed(patch_files.Parts(patch.deltas, patch.outputs, patch.reason, patch.origin))


@pytest.fixture
def folder(tmp_path):
    PATCH.save_pretrained(tmp_path / "patch")
    return tmp_path / "patch"


def test_every_bit_and_word_comes_back(folder):
    loaded = Patch.from_pretrained(folder)
    before, after = parts(PATCH), parts(loaded)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.origin == ORIGIN
    assert loaded.touches == PATCH.touches


def test_what_the_method_measured_stands_in_the_origin(tmp_path):
    reading = Reading(name="synthetic forget accuracy", value=0.25, low=0.1, high=0.4, count=12, better="low")
    origin = ORIGIN.model_copy(update={"measured": (reading,)})
    dataclasses.replace(PATCH, origin=origin, readings=(reading,)).save_pretrained(tmp_path / "patch")
    loaded = Patch.from_pretrained(tmp_path / "patch")
    assert loaded.origin == origin
    assert loaded.readings == ()


def test_an_origin_from_before_measurements_still_loads(folder):
    description = json.loads((folder / "patch.json").read_text())
    del description["origin"]["measured"]
    change(folder, origin=description["origin"])
    assert Patch.from_pretrained(folder).origin == ORIGIN


def test_an_empty_patch_keeps_its_reason(tmp_path):
    Patch(reason="Nothing helped.").save_pretrained(tmp_path / "patch")
    loaded = Patch.from_pretrained(tmp_path / "patch")
    assert loaded.empty
    assert loaded.reason == "Nothing helped."
    assert loaded.origin is None


def test_the_same_patch_gives_the_same_bytes(folder, tmp_path):
    PATCH.save_pretrained(tmp_path / "again")
    for name in patch_files.NAMES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_card_says_what_and_for_which_model(folder):
    card = (folder / "README.md").read_text()
    assert "base_model: org/model" in card
    assert "Forgets: cat. Method: project. Base: org/model." in card
    assert "no proof of deletion" in card


@pytest.mark.parametrize("base", ["/local/folder", "./folder", "sandbox", "a/b/c"])
def test_only_a_hub_id_becomes_the_base_model_of_the_card(tmp_path, base):
    origin = ORIGIN.model_copy(update={"base": Source(where=base)})
    dataclasses.replace(PATCH, origin=origin).save_pretrained(tmp_path / "patch")
    assert "base_model" not in (tmp_path / "patch" / "README.md").read_text()


def test_a_full_folder_is_kept_unless_forced(folder):
    with pytest.raises(OutputError, match="--force"):
        Patch().save_pretrained(folder)
    Patch().save_pretrained(folder, force=True)
    assert Patch.from_pretrained(folder).empty


def change(folder, **values: object) -> None:
    path = folder / "patch.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


DAMAGES = {
    "holds no patch.json. Give a folder": lambda folder: (folder / "patch.json").unlink(),
    "is not valid JSON. Fetch": lambda folder: (folder / "patch.json").write_text("{"),
    "is not of patch format 1. Update this package": lambda folder: change(folder, format=2),
    "not of patch format": lambda folder: (folder / "patch.json").write_text("[]"),
    "patch.safetensors does not exist": lambda folder: (folder / "patch.safetensors").unlink(),
    "does not match its digest": lambda folder: (folder / "patch.safetensors").write_bytes(b"x" * 100),
    "digest in patch.json": lambda folder: change(folder, sha256="0" * 64),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_a_damaged_folder_is_refused(folder, message):
    DAMAGES[message](folder)
    with pytest.raises(WeightsError) as caught:
        Patch.from_pretrained(folder)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "names", [["delta.left/x"], ["delta.right/x"], ["output.down/image"], ["output.up/text"], ["z/x"]]
)
def test_half_a_pair_or_an_unknown_part_is_refused(folder, names):
    from clip_unlearn.files import digest, tensors

    tensors.write(folder / "patch.safetensors", {name: draw(2, 2) for name in names})
    change(folder, sha256=digest.of_file(folder / "patch.safetensors"))
    with pytest.raises(WeightsError, match=r"patch\.safetensors.*Fetch the patch again\.$"):
        Patch.from_pretrained(folder)


@pytest.mark.parametrize("origin", [{"method": "project"}, [1], "project", {**ORIGIN.model_dump(mode="json"), "x": 1}])
def test_a_malformed_origin_is_refused(folder, origin):
    change(folder, origin=origin)
    with pytest.raises(WeightsError, match=r"patch\.json.*Fetch the patch again\.$"):
        Patch.from_pretrained(folder)


def test_no_folder_there(tmp_path):
    with pytest.raises(WeightsError, match=r"^Patch .* does not exist\."):
        Patch.from_pretrained(tmp_path / "nowhere")


def test_uploading_sends_the_same_files(monkeypatch, folder):
    class Api:
        def __init__(self, token):
            assert token == "secret"

        def create_repo(self, repository, *, private, exist_ok):
            assert (repository, private, exist_ok) == ("me/patch", True, True)

        def upload_folder(self, *, repo_id, folder_path):
            sent = Path(folder_path)
            assert {path.name: path.read_bytes() for path in sent.iterdir()} == {
                path.name: path.read_bytes() for path in folder.iterdir()
            }
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert PATCH.push_to_hub("me/patch", token="secret") == "https://hub/me/patch"
