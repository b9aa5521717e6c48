"""Wrong answers at random: which ones are drawn, and the loss that they enter."""

import dataclasses

import pytest
import torch
from descent_cases import (
    DOWN,
    SHORT,
    captioned_request,
    check_gradient,
    check_same_bytes,
    cross_entropy,
    fake_step,
    labelled_request,
    losses,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.errors import DataError
from clip_unlearn.methods import random_label
from clip_unlearn.methods.random_label import RandomLabel, loss_of


@pytest.fixture
def drawn(monkeypatch):
    """Return a list that grows by the labels of every loss that is taken, forget images first."""
    seen, real = [], random_label.classification

    def classification(images, names, labels, scale):
        seen.append(labels)
        return real(images, names, labels, scale)

    monkeypatch.setattr(random_label, "classification", classification)
    return seen


@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(1.0, 1.0), (0.5, 0.0), (2.0, 3.0)])
def test_the_loss_is_the_formula_for_the_classes_drawn(drawn, forget_weight, retain_weight):
    step = fake_step()
    found = value(loss_of(RandomLabel(forget_weight=forget_weight, retain_weight=retain_weight), step))
    wrong = cross_entropy(step.forget.images, step.names, drawn[0], step.scale)
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    assert found == pytest.approx(forget_weight * wrong + retain_weight * kept, abs=1e-9)


def test_every_retained_class_is_drawn_and_none_that_is_to_go(drawn):
    loss_of(RandomLabel(), fake_step(forget=600, names=5, forgotten=2))
    counts = torch.bincount(drawn[0], minlength=5).tolist()
    assert counts[:2] == [0, 0]
    assert counts[2:] == pytest.approx([200] * 3, abs=45)


def test_what_is_drawn_depends_on_the_generator_of_the_step_alone(drawn):
    torch.manual_seed(1)
    first, again, other = fake_step(forget=40), fake_step(forget=40), fake_step(forget=40)
    other = dataclasses.replace(other, seed=5)
    for step in (first, again, other):
        loss_of(RandomLabel(), step)
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[4])


def test_the_gradient_is_that_of_the_loss():
    method, step = RandomLabel(), fake_step()
    assert reached(loss_of(method, step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), RandomLabel(descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        RandomLabel(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize("settings", [{"forget_weight": 0.0}, {"retain_weight": -1.0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="greater than"):
        RandomLabel(**settings)
