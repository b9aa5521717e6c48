"""Negative preference on zero-shot probabilities: its loss against the formula, both ways to hold the rest."""

import numpy as np
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
    log_probabilities,
    losses,
    mean_divergence,
    numbers,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.errors import DataError
from clip_unlearn.methods.npo import Npo, loss_of


def zero_shot(step, images, names) -> np.ndarray:
    return log_probabilities(step.scale * numbers(images) @ numbers(names).T)


def preference(step, beta: float) -> float:
    now = zero_shot(step, step.forget.images, step.names)
    before = zero_shot(step, step.forget.before_images, step.before_names)
    terms = [
        np.log(1 / (1 + np.exp(beta * (row[label] - old[label]))))
        for row, old, label in zip(now, before, step.forget.labels.tolist(), strict=True)
    ]
    return -2 / beta * float(np.mean(terms))


@pytest.mark.parametrize("beta", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(1.0, 1.0), (2.5, 0.0), (0.5, 3.0)])
def test_the_loss_with_classification_is_the_formula(beta, forget_weight, retain_weight):
    step = fake_step()
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    written = forget_weight * preference(step, beta) + retain_weight * kept
    method = Npo(beta=beta, forget_weight=forget_weight, retain_weight=retain_weight)
    assert value(loss_of(method, step)) == pytest.approx(written, abs=1e-9)


def test_the_loss_with_divergence_is_the_formula():
    step = fake_step()
    now = zero_shot(step, step.retain.images, step.names)
    before = zero_shot(step, step.retain.before_images, step.before_names)
    written = preference(step, 0.5) + 2.0 * mean_divergence(before, now)
    method = Npo(beta=0.5, retention="divergence", retain_weight=2.0)
    assert value(loss_of(method, step)) == pytest.approx(written, abs=1e-9)


@pytest.mark.parametrize("retention", ["classification", "divergence"])
def test_the_gradient_is_that_of_the_loss(retention):
    method, step = Npo(retention=retention), fake_step()
    assert reached(loss_of(method, step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_the_divergence_starts_at_nothing():
    step = fake_step(at_start=True)
    first = value(loss_of(Npo(retention="divergence", beta=0.5), step))
    assert first == pytest.approx(4 * np.log(2), abs=1e-9)


@pytest.mark.parametrize("retention", ["classification", "divergence"])
def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch, retention):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Npo(retention=retention, descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        Npo(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize("settings", [{"beta": 0.0}, {"forget_weight": 0.0}, {"retain_weight": -1.0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="greater than"):
        Npo(**settings)
