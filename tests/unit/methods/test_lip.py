"""Forgetting by smoothing: what is forgotten and kept, from what, and what nothing depends on."""

import copy
import dataclasses
import functools

import pytest
import torch
from lip_requests import FEW, SELECT, SHORT, about, turns_of, with_images
from torch import nn

from clip_unlearn.core import journal
from clip_unlearn.core.config import build
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.methods import _ground
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.methods.lip import Lip
from clip_unlearn.models.open import open_model
from clip_unlearn.synthesis.ascend import Ascent
from clip_unlearn.synthesis.studio import Studio


@functools.cache
def photographs():
    """Return photographs of every class from the stream that nothing learns from."""
    images = open_data("sandbox:photo@audit")
    return images.take(place for place, key in enumerate(images.keys) if int(key.rpartition("/")[2]) < 8)


def shares(model) -> dict[str, float]:
    """Return the share of the photographs of every class that is recognised."""
    images = photographs()
    found = embed_images(model, images)
    with torch.no_grad():
        rows = model.texts([f"a photo of a {name}." for name in images.classes])
    hits = ranks(cosines(found.vectors, rows), torch.tensor(images.labels)) == 1
    labels = torch.tensor(images.labels)
    return {name: float(hits[labels == place].float().mean()) for place, name in enumerate(images.classes)}


def kept(before: dict[str, float], after: dict[str, float], *gone: str) -> float:
    """Return what share of their accuracy the other classes keep."""
    others = [name for name in before if name not in gone]
    return sum(after[name] for name in others) / sum(before[name] for name in others)


def same(first, second) -> bool:
    """Return whether two patches agree in every byte and word."""
    told = (first.reason, first.readings, list(first.deltas)) == (second.reason, second.readings, list(second.deltas))
    return told and all(torch.equal(delta, second.deltas[name]) for name, delta in first.deltas.items())


@functools.cache
def forgotten_mug():
    """Return the patch of the default settings."""
    return Lip().forget(open_model("sandbox"), about("mug"))


@functools.cache
def accuracies_before():
    return shares(open_model("sandbox"))


def test_photographs_are_forgotten_and_the_others_are_kept():
    """Pictures that nothing was learned from, of a class no picture of which was given."""
    before, after = accuracies_before(), shares(forgotten_mug().apply(open_model("sandbox")))
    assert before["mug"] == 1
    assert after["mug"] <= 0.125
    assert kept(before, after, "mug") > 0.95


def test_readings_tell_of_the_pictures_held_out():
    found = {(one.name, one.subject): one for one in forgotten_mug().readings}
    assert len(found) == len(forgotten_mug().readings) == 4
    for subject, value in (("before", 1.0), ("after", 0.0)):
        forget, retain = (found[f"synthetic {what} accuracy", subject] for what in ("forget", "retain"))
        assert (forget.count, forget.better, forget.of, forget.value) == (8, "low", "mug", value)
        assert (retain.count, retain.better, retain.of) == (6, "high", "mug")  # every fourth of 24, all recognised
        assert retain.value > 0.8
        assert forget.low <= forget.value <= forget.high  # 8 pictures: steps of 1/8 and a wide interval
        assert forget.high - forget.low > 0.2


def test_without_images_no_image_is_opened(shared, monkeypatch):
    """Also where the request offers some."""
    monkeypatch.setattr(_ground, "open_data", lambda where: pytest.fail(f"opened {where}"))
    assert not Lip(**SHORT).forget(open_model("sandbox"), with_images("mug")).empty


def test_two_classes_at_once(shared):
    model = open_model("sandbox")
    patch = Lip(pictures=8).forget(model, about("mug", "rabbit"))
    before, after = accuracies_before(), shares(patch.apply(model))
    assert [one.of for one in patch.readings] == ["mug, rabbit"] * 4
    assert max(after["mug"], after["rabbit"]) <= 0.25
    assert kept(before, after, "mug", "rabbit") > 0.9


def test_two_classes_one_after_the_other(shared):
    """Each has readings of its own, and the first stays forgotten."""
    model = open_model("sandbox")
    patch = Lip(pictures=8, sequential=True).forget(model, about("mug", "rabbit"))
    before, after = accuracies_before(), shares(patch.apply(model))
    assert [one.of for one in patch.readings] == ["mug"] * 4 + ["rabbit"] * 4
    assert max(after["mug"], after["rabbit"]) <= 0.25
    assert kept(before, after, "mug", "rabbit") > 0.9


def test_real_images_are_a_need_of_one_setting():
    assert Lip().requires() == Lip.needs == {"texts", "gradients"}
    assert Lip(source="real").requires() == {"texts", "gradients", "images"}
    with pytest.raises(UnsupportedError, match="needs images of the class"):
        Lip(source="real").check(open_model("sandbox"), about("mug"))
    Lip().check(open_model("sandbox"), about("mug"))


def test_real_images_are_learned_from(monkeypatch):
    """Those of the request, opened where it says, and no others; nothing is synthesised."""
    opened, real_open = [], _ground.open_data
    monkeypatch.setattr(_ground, "open_data", lambda where: opened.append(where) or real_open(where))
    monkeypatch.setattr(Studio, "pictures", lambda *_: pytest.fail("synthesised"))
    model, request = open_model("sandbox"), with_images("mug")
    patch = Lip(source="real").forget(model, request)
    assert opened == [SELECT]
    before, after = accuracies_before(), shares(patch.apply(model))
    assert after["mug"] <= 0.125
    assert kept(before, after, "mug") > 0.95


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_alone(shared, tower):
    model = open_model("sandbox")
    patch = Lip(**SHORT, towers=tower).forget(model, about("mug"))
    assert patch.deltas.keys() <= {*tower_tensors(model, projections=True)[tower]}
    assert not patch.empty


def test_both_towers_and_few_tensors(shared):
    """Only what was chosen is in the patch; everything else is the model's own tensor."""
    model = open_model("sandbox")
    patch = Lip(**{**SHORT, "rounds": 1}, image_tensors=2, text_tensors=3).forget(model, about("mug"))
    towers = tower_tensors(model, projections=True)
    assert [len(patch.deltas.keys() & {*towers[tower]}) for tower in ("image", "text")] == [2, 3]
    edited = patch.apply(model)
    assert {name for name, weight in model.weights.items() if edited.weights[name] is not weight} == {*patch.deltas}


@pytest.mark.parametrize("selection", ["gain", "mean", "all"])
def test_batch_normalisation_never_changes(shared, selection):
    """Nor do statistics, flags or gradients of the model, also where weights ask for gradients."""
    opened = open_model("sandbox-conv")
    model = dataclasses.replace(opened, module=copy.deepcopy(opened.module))
    for number, weight in enumerate(model.module.parameters()):
        weight.requires_grad_(number % 2 == 0)
    before, asked = model.fingerprint, [weight.requires_grad for weight in model.module.parameters()]
    patch = Lip(**SHORT, selection=selection).forget(model, about("mug"))
    assert not patch.empty
    norms = {name for name, part in model.module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert norms
    assert not norms & {name.rpartition(".")[0] for name in patch.deltas}
    assert dataclasses.replace(model).fingerprint == before
    assert [weight.requires_grad for weight in model.module.parameters()] == asked
    assert all(weight.grad is None for weight in model.module.parameters())


def test_batch_normalisation_cannot_be_chosen(tiny_dual):
    norms = {n for n, part in tiny_dual.model.module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    chosen = {name for names in tower_tensors(tiny_dual.model, projections=True).values() for name in names}
    assert norms
    assert not norms & {name.rpartition(".")[0] for name in chosen}


def test_names_are_enough(shared):
    """Any list of them, with one rule for all: no threshold by hand, no data, and none of it retained by name."""
    request = Request(forget=(Concept(name="mug"),), background=("car", "cat", "tree", "cup", "house", "dog"))
    patch = Lip(**SHORT).forget(open_model("sandbox"), request)
    assert not patch.empty
    assert {one.of for one in patch.readings} == {"mug"}


def test_what_cannot_be_reached_is_refused_in_the_end():
    """A limit on the steps, not an endless climb; and what is missing is said."""
    method = Lip(**FEW, ascent=Ascent(steps=1, probability=0.9))
    with pytest.raises(UnsupportedError) as refused:
        method.forget(open_model("sandbox"), about("mug"))
    assert str(refused.value) == (
        "0 of 9 synthetic pictures of 'mug' were recognised with a probability above 0.5 within 1 steps. "
        "Allow more steps or a lower probability."
    )


def test_the_same_bytes_in_any_weather():
    """Nothing is taken from the global random state; another seed is another patch."""
    model, patches = open_model("sandbox"), []
    for weather, seed in ((1, 0), (2, 0), (1, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weather)
            patches.append(Lip(**SHORT).forget(model, about("mug", seed=seed)))
    assert same(patches[0], patches[1])
    assert not same(patches[0], patches[2])


@pytest.mark.parametrize(
    ("stage", "done", "time", "sequential", "rounds"),
    [("synthesise", 8, 1, False, 0), ("forget", 2, 1, False, 2), ("forget", 1, 2, True, 4)],
)
def test_a_killed_run_goes_on_to_the_same_bytes(shared, tmp_path, stage, done, time, sequential, rounds, monkeypatch):
    """Among pictures, between two rounds, and in the second of two classes: nothing is made twice."""
    model, request = open_model("sandbox"), about("mug", "cat")
    method = Lip(**{**SHORT, "rounds": 3}, sequential=sequential)
    whole = method.forget(model, request)
    assert not whole.empty
    told, seen = [], turns_of(monkeypatch)

    def kill(*step):
        told.append(step[:2])
        if told.count((stage, done)) == time:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), journal.journaling(tmp_path / "steps", resume=True), reporting(kill):
        method.forget(model, request)
    assert len(seen) == rounds
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "steps").iterdir()}
    assert written
    with journal.journaling(tmp_path / "steps", resume=True):
        resumed = method.forget(model, request)
        again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "steps").iterdir()}
    assert same(resumed, whole)
    assert len(seen) == (6 if sequential else 3)
    assert written.items() <= again.items()


@pytest.mark.parametrize("values", [{"noise": 1}, {"towers": "none"}, {"stop": 1}, {"rounds": 0}])
def test_settings_that_are_none_are_refused(values):
    with pytest.raises(SettingError):
        build(Lip, values, where="method lip")
