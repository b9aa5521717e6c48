"""From requests to one patch: undo in any order leaves no trace, and what a ledger composes can be checked."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

import pytest
import torch

from clip_unlearn import methods, open_model
from clip_unlearn.core import ledger_file
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError, OutputError, RequestError, SettingError, UnsupportedError, WeightsError
from clip_unlearn.files import tensors
from clip_unlearn.maths import lowrank
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.project import Project
from clip_unlearn.prompts.expand import common_nouns
from clip_unlearn.runs import ledger, ledger_patch
from clip_unlearn.runs.bake import bake
from clip_unlearn.runs.ledger_verify import verify_patch
from clip_unlearn.runs.run import make_patch
from clip_unlearn.sandbox import bundle


@final
class FromImages(Method):
    """A method that needs pictures."""

    needs: ClassVar = frozenset({"images"})

    def forget(self, model: Model, request: Request) -> Patch:
        raise AssertionError("never asked")


RETAIN = ("tree", "house", "river", "cloud", "dog", "lamp")

QUICK: Mapping[str, Mapping[str, object]] = {
    "lip": {"pictures": 4, "stop_pictures": 2, "held_pictures": 4, "noise_draws": 1, "rounds": 2},
    "lip_paper": {"pictures": 4, "stop_pictures": 2, "draws": 1, "epochs": 2, "learning_rate": 1e-2},
}
"""Settings of slow methods; what they forget is tested elsewhere."""


@pytest.fixture(scope="session")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


@pytest.fixture
def path(sandbox: Model, tmp_path: Path) -> Path:
    """Return an empty ledger for the embedded model."""
    where = tmp_path / "requests.jsonl"
    ledger_patch.create(where, sandbox, retain=RETAIN)
    return where


def files(folder: Path) -> dict[str, bytes]:
    """Return the files that make a patch, without what it says about its ledger."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != ledger_patch.MANIFEST_FILE}


def compose(path: Path, name: str, model: Model) -> Path:
    """Return the folder of a newly composed patch."""
    out = path.with_name(name)
    ledger_patch.compose(path, out, model=model)
    return out


def test_the_header_fixes_all_that_the_edit_depends_on(sandbox: Model, tmp_path: Path) -> None:
    made = ledger_patch.create(tmp_path / "l.jsonl", "sandbox", method=Project(strength=0.5), template="varied", seed=3)
    header = made.header
    assert header.base.where == "sandbox"
    assert header.base.digest == sandbox.fingerprint
    assert (header.method, header.seed, header.other_names) == ("project", 3, "auto")
    assert header.settings == {"strength": 0.5, "centre": "retain", "pool": "mean"}
    assert header.retain == ()
    assert header.background == common_nouns()
    assert len(header.templates) > 1


def test_fifty_requests_of_which_ten_are_undone_weigh_like_forty(path: Path, sandbox: Model, tmp_path: Path) -> None:
    chance = random.Random(4)
    names = common_nouns(without=RETAIN)[:50]
    undone = chance.sample(range(50), 10)
    for number, name in enumerate(names):
        ledger.add(path, [name], request_id=f"R-{number}", note=f"note {number}")
        if number % 7 == 0 and number in undone:
            ledger.undo(path, f"R-{number}")
    for number in undone:
        if number % 7 or f"r-{number}" not in ledger_file.read(path).undone:
            ledger.undo(path, f"R-{number}", reason="asked to")
    other = tmp_path / "forty.jsonl"
    ledger_patch.create(other, sandbox, retain=RETAIN)
    for number in chance.sample(sorted(set(range(50)) - set(undone)), 40):
        ledger.add(other, [names[number]], request_id=f"Q-{number}")
    assert (len(ledger_file.read(path).live), len(ledger_file.read(other).live)) == (40, 40)
    folders = [compose(path, "one", sandbox), compose(other, "two", sandbox)]
    assert files(folders[0]) == files(folders[1])
    edited = [Patch.from_pretrained(folder).apply(sandbox) for folder in folders]
    assert edited[0].fingerprint == edited[1].fingerprint != sandbox.fingerprint
    whole = {name: tensor.numpy().tobytes() for name, tensor in edited[0].weights.items()}
    assert whole == {name: tensor.numpy().tobytes() for name, tensor in edited[1].weights.items()}


@pytest.mark.parametrize("gone", ["R-1", "R-2", "R-3"])
def test_any_one_request_can_be_undone(gone: str, path: Path, sandbox: Model, tmp_path: Path) -> None:
    other = tmp_path / "never.jsonl"
    ledger_patch.create(other, sandbox, retain=RETAIN)
    # The second names the first one's synonym and retains a name of its own.
    asked = {"R-1": (["mug | cup"], ()), "R-2": (["cup", "cat"], ("bowl",)), "R-3": (["car"], ("tree",))}
    for request_id, (forget, retain) in asked.items():
        ledger.add(path, forget, request_id=request_id, retain=retain)
        if request_id != gone:
            ledger.add(other, forget, request_id=request_id, retain=retain)
    before = files(compose(path, "before", sandbox))
    ledger.undo(path, gone)
    after = files(compose(path, "after", sandbox))
    assert after == files(compose(other, "never", sandbox)) != before


def test_the_sum_of_single_patches_leaves_a_residual_and_the_joint_edit_does_not(path: Path, sandbox: Model) -> None:
    names = ["mug", "bowl", "teapot", "vase"]
    path = path.with_name("projected.jsonl")
    ledger_patch.create(path, sandbox, method="project", retain=RETAIN, other_names="none")
    for name in names:
        ledger.add(path, [name])
    joint = Patch.from_pretrained(compose(path, "joint", sandbox)).apply(sandbox)
    weight = "visual_projection.weight"
    summed = sandbox.weights[weight].double()
    for name in names:
        request = Request(forget=(Concept(name=name),), retain=RETAIN)
        summed = summed + lowrank.dense(make_patch(sandbox, request, Project()).deltas[weight]).double()
    naive = sandbox.replace({weight: summed.float()})
    retained = unit(sandbox.texts(Request(forget=(Concept(name="x"),)).sentences(RETAIN)).double()).mean(0)
    direction = unit(sandbox.texts(["a photo of a mug."]).double())[0] - retained
    direction = unit(direction[None])[0]
    pictures = torch.randn(32, 3, 48, 48, generator=torch.Generator().manual_seed(0))

    def along(model: Model) -> float:
        with torch.no_grad():
            embeddings = model.images(pictures).double()
        return float((embeddings @ direction).abs().mean())

    assert along(joint) < 1e-4 * along(sandbox)
    assert along(naive) > 0.1 * along(sandbox)


def test_patches_of_single_requests_one_after_the_other_are_no_joint_edit_either(path: Path, sandbox: Model) -> None:
    requests = [Request(forget=(Concept(name=name),), retain=RETAIN) for name in ("mug", "bowl")]
    first, second = (Project().forget(sandbox, request) for request in requests)
    both = Project().forget(sandbox, Request(forget=(Concept(name="mug"), Concept(name="bowl")), retain=RETAIN))
    rows = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(first.then(second).outputs["image"](rows), both.outputs["image"](rows), atol=1e-2)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_makes_the_ordinary_patch_of_the_joint_request(name: str, sandbox: Model, tmp_path: Path) -> None:
    path, out, method = tmp_path / "l.jsonl", tmp_path / "out", methods.find(name)(**QUICK.get(name, {}))
    if "images" in method.requires():
        with pytest.raises(UnsupportedError, match="learns from images"):
            ledger_patch.create(path, sandbox, method=method, retain=RETAIN)
        return
    ledger_patch.create(path, sandbox, method=method, retain=RETAIN)
    ledger.add(path, ["mug | cup"], request_id="R-1")
    ledger.add(path, ["cat"], request_id="R-2")
    patch, manifest = ledger_patch.compose(path, out, model=sandbox)
    known = ledger_file.read(path)
    request = ledger_patch.joint(known)
    assert patch.origin is not None
    assert patch.origin.request == request
    assert request.forget == (Concept(name="cat"), Concept(name="mug", synonyms=("cup",)))
    make_patch(sandbox, request, method).save_pretrained(tmp_path / "direct")
    assert files(out) == files(tmp_path / "direct")
    assert (manifest.head, manifest.live) == (known.head, ("R-1", "R-2"))
    written = json.loads((out / "ledger.json").read_text())
    assert written == manifest.model_dump(mode="json")


def test_when_nothing_is_live_the_patch_is_empty_and_says_so(path: Path, sandbox: Model) -> None:
    never = files(compose(path, "never", sandbox))
    ledger.add(path, ["mug"], request_id="R-1")
    ledger.undo(path, "R-1")
    folder = compose(path, "undone", sandbox)
    assert files(folder) == never
    patch = Patch.from_pretrained(folder)
    assert patch.empty
    assert patch.reason == ledger_patch.NOTHING_LIVE
    assert patch.apply(sandbox).fingerprint == sandbox.fingerprint
    assert verify_patch(ledger_file.read(path), folder, model=sandbox) == "patch"
    ledger.add(path, ["cat"])
    with pytest.raises(DataError, match="does not say what it forgets"):
        verify_patch(ledger_file.read(path), folder, model=sandbox)


def test_a_name_to_forget_wins_over_names_to_retain(path: Path, sandbox: Model) -> None:
    ledger.add(path, ["mug"], retain=["cup"])
    ledger.add(path, ["cup", "tree"])
    patch, manifest = ledger_patch.compose(path, path.with_name("out"), model=sandbox)
    assert manifest.overruled == ("cup", "tree")
    assert patch.origin is not None
    assert patch.origin.request.retain == RETAIN[1:]


def test_general_nouns_leave_with_what_they_name_as_if_they_had_never_been_listed(
    tmp_path: Path, sandbox: Model
) -> None:
    path = tmp_path / "l.jsonl"
    ledger_patch.create(path, sandbox, retain=["zebra"])
    for name in ("couch", "sports car", "Cats", "thing of no list"):
        ledger.add(path, [name])
    joint = ledger_patch.joint(ledger_file.read(path))
    left = common_nouns(without=["couch", "sports car", "Cats", "thing of no list"])
    assert joint.background == tuple(noun for noun in left if noun != "zebra")
    assert not {"sofa", "car", "cat"} & set(joint.background)
    patch, _ = ledger_patch.compose(path, path.with_name("out"), model=sandbox)
    assert patch.origin is not None
    assert patch.origin.method == "redirect"
    assert {"sofa", "car", "cat"} < set(common_nouns())


def test_ids_made_from_the_content(path: Path) -> None:
    first = ledger.add(path, ["mug | cup", "cat"]).request_id
    assert first.startswith("R-")
    assert len(first) == 14
    with pytest.raises(RequestError, match=f"live already as '{first}'"):
        ledger.add(path, ["cat", Concept(name="mug", synonyms=("cup",))], note="the same in other words")
    ledger.undo(path, first.lower())
    assert ledger.add(path, ["mug | cup", "cat"]).request_id == f"{first}-2"
    assert ledger.add(path, ["mug | cup", "cat"], request_id="R-2026-014").request_id == "R-2026-014"
    assert ledger.add(path, ["mug"]).request_id != first


def test_an_id_made_from_the_content_that_another_request_was_given(path: Path) -> None:
    due = ledger.add(path, ["mug"]).request_id
    fresh = path.with_name("fresh.jsonl")
    fresh.write_bytes(ledger_file.read(path).entries[0].line)
    ledger.add(fresh, ["something else"], request_id=due)
    assert ledger.add(fresh, ["mug"]).request_id == f"{due}-2"


@pytest.mark.parametrize("given", ["m\udcffg", "", "a | ", "mug | mug", "m" * 300])
def test_names_that_cannot_be_used_leave_the_ledger_alone(given: str, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(RequestError):
        ledger.add(path, [given])
    with pytest.raises(RequestError):
        ledger.add(path, [given], request_id="R-1")
    assert path.read_bytes() == before


def test_a_head_noted_earlier_is_asked_for(path: Path) -> None:
    noted = ledger.add(path, ["mug"]).hash
    ledger.add(path, ["cat"])
    assert len(ledger.verify(path, head=noted).entries) == 3
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])
    assert len(ledger.verify(path).entries) == 1
    with pytest.raises(DataError, match="entries are gone or were rewritten"):
        ledger.verify(path, head=noted)


def test_a_composed_patch_guards_the_last_lines_of_its_ledger(path: Path, sandbox: Model) -> None:
    ledger.add(path, ["mug"])
    folder = compose(path, "out", sandbox)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])
    before = files(folder)
    with pytest.raises(DataError, match="composed from 2 entries.*entries are gone"):
        ledger_patch.compose(path, folder, model=sandbox, force=True)
    with pytest.raises(DataError, match="composed from 2 entries.*entries are gone"):
        verify_patch(ledger_file.read(path), folder, model=sandbox)
    assert files(folder) == before
    (folder / ledger_patch.MANIFEST_FILE).write_text("{}")
    with pytest.raises(DataError, match="does not say which ledger"):
        ledger_patch.compose(path, folder, model=sandbox, force=True)


@pytest.mark.parametrize("family", ["sandbox", "sandbox-conv", "sandbox-openclip"])
def test_a_patch_and_a_checkpoint_are_verified_and_changed_ones_are_found(family: str, tmp_path: Path) -> None:
    path, model = tmp_path / "l.jsonl", open_model(family)
    ledger_patch.create(path, family, retain=RETAIN)
    ledger.add(path, ["mug"])
    ledger.add(path, ["cat"])
    folder, baked = tmp_path / "patch", tmp_path / "baked"
    patch, _ = ledger_patch.compose(path, folder)
    bake(model, patch, baked)
    known = ledger_file.read(path)
    assert verify_patch(known, folder) == "patch"
    assert verify_patch(known, baked) == "checkpoint"
    _nudge(folder)
    with pytest.raises(DataError, match="not what the ledger composes here, but differs by up to"):
        verify_patch(known, folder, model=model)
    bake(model, Patch.from_pretrained(folder), baked, force=True)
    with pytest.raises(DataError, match="not what the ledger composes here, but differs by up to"):
        verify_patch(known, baked, model=model)
    ledger.add(path, ["dog"])


def _nudge(folder: Path) -> None:
    """Change one number of a patch by the smallest possible amount, and its digest to match."""
    patch = Patch.from_pretrained(folder)
    name, delta = next(iter(patch.deltas.items()))
    assert isinstance(delta, lowrank.LowRank)
    left = delta.left.clone()
    left[0, 0] = torch.nextafter(left[0, 0], torch.tensor(torch.inf))
    changed = {**patch.deltas, name: lowrank.LowRank(left=left * 1.01, right=delta.right)}
    Patch(deltas=changed, origin=patch.origin).write(folder)
    assert tensors.read(folder / "patch.safetensors")


def test_what_verifying_an_outdated_patch_says(path: Path, sandbox: Model) -> None:
    for name in ("mug", "cat"):
        ledger.add(path, [name], request_id=f"R-{name}")
    folder = compose(path, "out", sandbox)
    ledger.add(path, ["car | automobile"])
    with pytest.raises(DataError, match="does not forget 'automobile', 'car'"):
        verify_patch(ledger_file.read(path), folder, model=sandbox)
    ledger.undo(path, "R-cat")
    with pytest.raises(DataError, match="does not forget 'automobile', 'car', and it also forgets 'cat'"):
        verify_patch(ledger_file.read(path), folder, model=sandbox)


def test_a_patch_from_another_place_is_not_what_the_ledger_composes(path: Path, sandbox: Model) -> None:
    ledger.add(path, ["mug"])
    known, folder = ledger_file.read(path), path.with_name("other")
    request = ledger_patch.joint(known)
    make_patch(sandbox, request, Project(strength=0.5)).save_pretrained(folder)
    with pytest.raises(DataError, match="other settings"):
        verify_patch(known, folder, model=sandbox)
    fewer = Request(forget=request.forget, retain=RETAIN[:3])
    make_patch(sandbox, fewer, Project()).save_pretrained(folder, force=True)
    with pytest.raises(DataError, match="it retains other names"):
        verify_patch(known, folder, model=sandbox)
    many = Request(forget=tuple(Concept(name=name) for name in ("ant", "bee", "cow", "fox", "hen")), retain=RETAIN)
    make_patch(sandbox, many, Project()).save_pretrained(folder, force=True)
    with pytest.raises(DataError, match="also forgets 'ant', 'bee', 'cow' and 2 more"):
        verify_patch(known, folder, model=sandbox)
    with pytest.raises(DataError, match="which has other weights altogether"):
        verify_patch(known, bundle.folder("sandbox-conv"), model=sandbox)
    with pytest.raises(WeightsError, match="does not exist"):
        verify_patch(known, path.with_name("nowhere"), model=sandbox)


def test_another_base_is_refused_and_the_same_one_elsewhere_is_not(path: Path, sandbox: Model) -> None:
    ledger.add(path, ["mug"])
    with pytest.raises(WeightsError, match="has other weights"):
        ledger_patch.compose(path, path.with_name("out"), model="sandbox-conv")
    assert not path.with_name("out").exists()
    moved = path.with_name("moved")
    sandbox.adapter.save(sandbox.module, moved)
    ledger_patch.compose(path, path.with_name("out"), model=moved)
    assert verify_patch(ledger_file.read(path), path.with_name("out")) == "patch"
    with pytest.raises(OutputError, match="not empty"):
        ledger_patch.compose(path, path.with_name("out"), model=moved)


def test_what_a_ledger_cannot_be_opened_for(tmp_path: Path, sandbox: Model) -> None:
    path = tmp_path / "l.jsonl"
    with pytest.raises(RequestError, match="twice"):
        ledger_patch.create(path, sandbox, retain=["cat", "Cat"])
    with pytest.raises(SettingError, match="seed"):
        ledger_patch.create(path, sandbox, seed=-1)
    with pytest.raises(UnsupportedError, match="learns from images"):
        ledger_patch.create(path, sandbox, method=FromImages())
    assert not path.exists()
    ledger_patch.create(path, sandbox)
    with pytest.raises(OutputError, match="exists"):
        ledger_patch.create(path, "a model that nobody opens")
