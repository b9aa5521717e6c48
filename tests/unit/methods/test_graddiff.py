"""Gradient difference: its loss, its weights, and what it needs."""

import pytest
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
from clip_unlearn.methods.graddiff import Graddiff, loss_of


@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(0.2, 1.0), (1.5, 1.0), (0.2, 0.0), (0.7, 3.0)])
def test_the_loss_is_the_weighted_difference(forget_weight, retain_weight):
    step = fake_step()
    gone = cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    found = value(loss_of(Graddiff(forget_weight=forget_weight, retain_weight=retain_weight), step))
    assert found == pytest.approx(retain_weight * kept - forget_weight * gone, abs=1e-9)


def test_the_gradient_is_that_of_the_loss():
    method, step = Graddiff(), fake_step()
    assert reached(loss_of(method, step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Graddiff(forget_weight=1.0, descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        Graddiff(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize("settings", [{"forget_weight": 0.0}, {"forget_weight": -1.0}, {"retain_weight": -0.1}])
def test_weights_are_checked(settings):
    with pytest.raises(ValueError, match="weight"):
        Graddiff(**settings)
