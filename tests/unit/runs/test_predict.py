"""Predictions of retained accuracy: against counting, against the probe that measures, and what is refused."""

import dataclasses
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies

from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.methods.project import Project
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.evaluate.zero_shot import ZeroShot
from clip_unlearn.runs import predict
from clip_unlearn.runs.predict import PREDICTED, margins, scene_of_images, scene_of_names
from clip_unlearn.sandbox.classes import CLASS_NAMES

RETAIN = tuple(name for name in CLASS_NAMES if name != "mug")
REQUEST = Request(forget=(Concept(name="mug", synonyms=("cup",)),), retain=RETAIN)
TINY = Request(forget=(Concept(name="cat"),), retain=("dog", "teapot", "mug", "bird"))


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@hypothesis.given(strategies.integers(1, 7), strategies.integers(2, 5), strategies.integers(0, 99))
def test_margins_are_own_less_best_other(count: int, names: int, seed: int) -> None:
    pictures, rows = draw(count, 3, seed=seed), draw(names, 3, seed=seed + 1)
    labels = torch.arange(count) % names
    scores = cosines(pictures, rows)
    slow = [
        float(line[own]) - max(float(score) for place, score in enumerate(line) if place != own)
        for line, own in zip(scores, labels.tolist(), strict=True)
    ]
    found = margins(pictures, rows, labels)
    assert found.tolist() == pytest.approx(slow, abs=1e-6)
    assert torch.equal(found > 0, ranks(scores, labels) == 1)


def test_margins_in_pieces_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, rows, labels = draw(10, 3), draw(4, 3), torch.arange(10) % 4
    whole = margins(pictures, rows, labels)
    monkeypatch.setattr(predict, "SCORES", 12)
    torch.testing.assert_close(margins(pictures, rows, labels), whole)


def test_a_null_picture_has_margin_nothing() -> None:
    assert margins(torch.zeros(1, 3), draw(4, 3), torch.tensor([2])).tolist() == [0]


def test_imagined_pictures_are_known_as_often_as_said(sandbox: Model) -> None:
    scene = scene_of_names(sandbox, REQUEST)
    assert float((scene.margins > 0).float().mean()) == pytest.approx(0.8, abs=0.002)
    assert torch.bincount(scene.labels).tolist() == [4000 // len(RETAIN)] * len(RETAIN)
    assert scene.names == (*RETAIN, "mug", "cup")
    assert scene.told == "3996 imagined pictures of 27 names"


def test_the_seed_alone_decides_what_is_imagined(sandbox: Model) -> None:
    first, same = (scene_of_names(sandbox, REQUEST).pictures for _ in range(2))
    other = scene_of_names(sandbox, REQUEST.model_copy(update={"seed": 1})).pictures
    assert torch.equal(first, same)
    assert not torch.allclose(first, other, atol=0.01)


def test_the_background_stands_in_for_names_to_retain(sandbox: Model) -> None:
    background = REQUEST.model_copy(update={"retain": (), "background": RETAIN})
    assert torch.equal(scene_of_names(sandbox, background).pictures, scene_of_names(sandbox, REQUEST).pictures)


def test_names_that_are_one_to_the_model_have_no_pictures(tiny_clip) -> None:
    """Two of the names are unknown to the tokenizer, so that they are the same sentence."""
    scene = scene_of_names(tiny_clip.model, TINY.model_copy(update={"retain": (*TINY.retain, "quux", "frob")}))
    assert set(scene.labels.tolist()) == {0, 1, 2, 3}


def test_change_counts_what_one_would_count(sandbox: Model) -> None:
    scene = scene_of_names(sandbox, REQUEST)
    edit = remove_directions(scene.rows[:3], strength=0.7)
    before, after = (
        cosines(pictures, scene.rows).argmax(1) == scene.labels for pictures in (scene.pictures, edit(scene.pictures))
    )
    reading = scene.change(Patch(outputs={"image": edit}))
    assert reading.value == pytest.approx(float(after.double().mean() - before.double().mean()), abs=1e-9)
    assert reading.value < -0.05
    assert reading.low < reading.value < reading.high
    assert (reading.name, reading.subject, reading.count) == (PREDICTED, "change", len(scene.labels))
    assert reading.interval == "Bonett-Price, paired, on 3996 imagined pictures of 27 names"


def test_nothing_changes_nothing(sandbox: Model) -> None:
    assert scene_of_names(sandbox, REQUEST).change(Patch()).value == 0


def test_an_edit_of_names_moves_the_names(sandbox: Model) -> None:
    scene = scene_of_names(sandbox, REQUEST)
    edit = remove_directions(scene.rows[:3], strength=0.9)
    found = scene.margins_after(Patch(outputs={"text": edit}))
    torch.testing.assert_close(found, margins(scene.pictures, edit(scene.rows), scene.labels))


@pytest.mark.parametrize("tower", ["image", "text"])
def test_folding_into_weights_makes_no_difference(sandbox: Model, tower: str) -> None:
    scene = scene_of_names(sandbox, REQUEST)
    patch = Patch(outputs={tower: remove_directions(scene.rows[:3], strength=0.9)})
    folded = patch.folded(sandbox)
    assert folded.portable
    torch.testing.assert_close(scene.margins_after(folded), scene.margins_after(patch), atol=1e-4, rtol=0)


def test_pictures_give_what_the_probe_measures(sandbox: Model) -> None:
    """With maps, and with weights below the last layer, for which the pictures are embedded again."""
    images = open_data("sandbox:photo@select")
    images = dataclasses.replace(images.take(range(0, len(images), 7)), where="sandbox:photo@select")
    scene = scene_of_images(sandbox, REQUEST, images)
    name = next(name for name in sandbox.weights if name.startswith("vision_model") and name.endswith("fc1.weight"))
    noise = 3 * sandbox.weights[name].std() * draw(*sandbox.weights[name].shape)
    for patch in (Project().forget(sandbox, REQUEST), Patch(deltas={name: noise})):
        found, measured = scene.change(patch), _measured(sandbox, patch.apply(sandbox), images)
        assert (found.value, found.low, found.high, found.p_value) == measured
        assert found.count == len(scene.labels) < len(images)
        assert found.interval == "Bonett-Price, paired, on sandbox:photo@select"
    assert found.value < -0.1


def _measured(before: Model, after: Model, images) -> tuple[float, float, float, float | None]:
    """Return the probe's change of retained accuracy on a set that is handed to it."""
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr("clip_unlearn.probes.evaluate.zero_shot.measured_images", lambda *_: images)
        readings = ZeroShot(data=images.where).measure(before, after, REQUEST)
    one = next(one for one in readings if one.name == "retain accuracy" and one.subject == "change")
    return one.value, one.low, one.high, one.p_value


def test_what_goes_below_the_last_layer_needs_pictures(tiny_clip) -> None:
    model = tiny_clip.model
    name = next(name for name in model.weights if name.startswith("vision_model") and name.endswith("fc1.weight"))
    patch = Patch(deltas={name: torch.ones_like(model.weights[name])})
    with pytest.raises(UnsupportedError, match=r"below the last layer .* given with --data\.$"):
        scene_of_names(model, TINY).change(patch)


def test_an_offset_needs_pictures(tiny_clip) -> None:
    edit = AffineMap(down=torch.zeros(16, 1), up=torch.zeros(1, 16), offset=torch.ones(16))
    with pytest.raises(UnsupportedError, match=r"offset.* --data\.$"):
        scene_of_names(tiny_clip.model, TINY).change(Patch(outputs={"image": edit}))


def test_refusals(tiny_clip, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"needs names to retain\. Give --retain NAMES"):
        scene_of_names(tiny_clip.model, TINY.model_copy(update={"retain": ()}))
    with pytest.raises(UnsupportedError, match=r"does not tell the names to retain apart"):
        scene_of_names(tiny_clip.model, TINY.model_copy(update={"retain": ("quux", "frob")}))
    images = open_data("sandbox:photo")
    only = images.take(index for index, label in enumerate(images.labels) if images.classes[label] == "mug")
    request = Request(forget=(Concept(name="mug"),))
    with pytest.raises(DataError, match="no class but those to forget"):
        scene_of_images(open_model("sandbox"), request, only.take([0, 1]))
