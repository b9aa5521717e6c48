"""Rounds of `lip`: which are kept, which are taken back, and when they end."""

import dataclasses

import pytest
import torch
from lip_requests import FEW, SHORT, about, turns_of

from clip_unlearn.methods._examination import Marks
from clip_unlearn.methods.lip import Lip
from clip_unlearn.models.open import open_model

NOTHING = {**FEW, "rounds": 1, "text_change": 1e-6, "image_change": 1e-6}


def test_no_round_that_helps_is_an_empty_patch_that_says_so(shared):
    model = open_model("sandbox")
    before = dataclasses.replace(model).fingerprint
    patch = Lip(**NOTHING).forget(model, about("mug"))
    assert patch.empty
    assert patch.reason == "No round lowered what is recognised of held-out synthetic pictures."
    assert [one.value for one in patch.readings if one.name == "synthetic forget accuracy"] == [1.0, 1.0]
    assert dataclasses.replace(model).fingerprint == before


def test_a_round_that_is_no_gain_is_taken_back(shared, monkeypatch):
    """The next begins where this one began, with two more tensors and shorter steps."""
    seen = turns_of(monkeypatch)
    patch = Lip(**{**NOTHING, "rounds": 3}).forget(open_model("sandbox"), about("mug"))
    assert patch.empty
    assert [(not state.weights, seed) for state, _, seed in seen] == [(True, 0), (True, 1), (True, 2)]
    for tower in ("image", "text"):
        assert [paces[tower].tensors for _, paces, _ in seen] == [6, 8, 10]
        changes = [paces[tower].change for _, paces, _ in seen]
        assert changes == pytest.approx([1e-6, 1e-6 * 5 / 6 * 0.8, 1e-6 * 4 / 6 * 0.8**2])


def wrecked(number, model, tensors):
    """Turn a readout around in the first round, so that nothing is recognised."""
    name = "visual_projection.weight"
    return {**tensors, f"weights/{name}": -model.weights[name]} if number == 1 else tensors


def test_a_round_that_loses_other_classes_is_taken_back(shared, monkeypatch):
    seen = turns_of(monkeypatch, wrecked)
    patch = Lip(**SHORT, spare=0.0).forget(open_model("sandbox"), about("mug"))
    assert not seen[1][0].weights
    assert "visual_projection.weight" not in patch.deltas
    assert next(one for one in patch.readings[::-1]).value == 1


def test_what_may_be_lost_is_a_setting(shared, monkeypatch):
    turns_of(monkeypatch, wrecked)
    patch = Lip(**{**SHORT, "rounds": 1}, spare=1.0).forget(open_model("sandbox"), about("mug"))
    assert "visual_projection.weight" in patch.deltas


@pytest.mark.parametrize("held_pictures", [8, 0])
def test_numbers_that_are_no_numbers_are_no_gain(shared, monkeypatch, held_pictures):
    """Not before the stop is reached and not after, whether or not other pictures would tell."""

    def spoilt(number, model, tensors):
        return {key: value * float("nan") if value.is_floating_point() else value for key, value in tensors.items()}

    turns_of(monkeypatch, spoilt)
    patch = Lip(**{**SHORT, "held_pictures": held_pictures}).forget(open_model("sandbox"), about("mug"))
    assert patch.empty
    assert "No round lowered" in patch.reason


def test_marks_without_numbers_count_as_recognised():
    """A broken model must not pass for one that forgot."""
    none = torch.zeros(0, dtype=torch.bool)
    marks = Marks(margins=torch.tensor([float("nan"), -1.0, 1.0, float("nan")]), kept=none)
    assert (marks.accuracy, marks.kept_share) == (0.75, 1.0)
    last = Marks(margins=torch.tensor([-1.0, -1.0]), kept=none)
    broken = Marks(margins=torch.tensor([float("nan"), float("nan")]), kept=none)
    assert not Lip()._better(last, broken, last)


@pytest.mark.parametrize(
    ("last", "found", "kept_now", "wanted"),
    [
        ([0.2, 0.2], [0.1, 0.1], 10, True),
        ([0.2, 0.2], [0.1995, 0.1995], 10, False),  # less than a real improvement
        ([0.2, 0.2], [0.3, 0.0], 10, True),  # the mean counts
        ([0.2, 0.2], [0.2, -0.01], 10, True),
        ([0.2, 0.2], [0.1, 0.1], 8, True),
        ([0.2, 0.2], [0.1, 0.1], 7, False),  # more than a fifth is lost
        ([-0.2, -0.2], [-0.1, -0.1], 10, True),  # below the stop it may come back a little
        ([-0.2, -0.2], [0.1, -0.1], 10, False),  # but not above it
        ([-0.2, -0.2], [-0.1, -0.1], 7, False),
    ],
)
def test_which_rounds_are_kept(last, found, kept_now, wanted):
    def marks(margins, count):
        return Marks(margins=torch.tensor(margins), kept=torch.arange(10) < count)

    assert Lip()._better(marks(last, 10), marks(found, kept_now), marks([0.3, 0.3], 10)) == wanted


def test_it_settles_after_the_stop(shared, monkeypatch):
    """Rounds of half the change each, and then no more."""
    seen = turns_of(monkeypatch)
    monkeypatch.setattr(Marks, "accuracy", property(lambda marks: 0.0))
    Lip(**{**FEW, "rounds": 10, "settle": 2, "text_change": 0.001, "image_change": 0.001}).forget(
        open_model("sandbox"), about("mug")
    )
    assert len(seen) == 3
    assert [paces["text"].change for _, paces, _ in seen] == pytest.approx([0.001, 0.00095 / 2, 0.0009 / 4])
