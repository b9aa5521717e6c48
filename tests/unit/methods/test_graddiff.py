"""Gradient difference: its loss, its weights, and what it needs."""

import numpy as np
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
    log_probabilities,
    losses,
    numbers,
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


def contrastive(side, scale):
    """Return the contrastive loss of the pairs of a side, written out."""
    logits = scale * numbers(side.images) @ numbers(side.texts).T
    both = [np.mean(np.diag(log_probabilities(one))) for one in (logits, logits.T)]
    return -float(sum(both)) / 2


def test_the_contrastive_loss_of_pairs_needs_no_class():
    step = fake_step(captions=True)
    gone, kept = contrastive(step.forget, step.scale), contrastive(step.retain, step.scale)
    found = value(loss_of(Graddiff(loss="contrastive", forget_weight=0.3, retain_weight=2.0), step))
    assert found == pytest.approx(2.0 * kept - 0.3 * gone, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        ("classification", {"forget.images", "retain.images", "names"}),
        ("contrastive", {"forget.images", "forget.texts", "retain.images", "retain.texts"}),
    ],
)
def test_the_gradient_is_that_of_the_loss(loss, wanted):
    method, step = Graddiff(loss=loss), fake_step()
    assert reached(loss_of(method, step), step) == wanted
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Graddiff(forget_weight=1.0, descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_captions_are_enough_for_the_contrastive_loss(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request = captioned_request(tmp_path)
    plain = Graddiff(loss="contrastive", descent=SHORT)
    told = Graddiff(loss="contrastive", descent=SHORT, other_senses=("red cat", "old cat", "big cat"))
    first, other = (each.forget(tiny_clip.model, request) for each in (plain, told))
    assert first.deltas
    assert any(not torch.equal(delta, other.deltas[name]) for name, delta in first.deltas.items())
    with pytest.raises(DataError, match="no class labels"):
        Graddiff(descent=SHORT).forget(tiny_clip.model, request)


def test_captions_without_classes_are_refused_as_a_setting():
    with pytest.raises(ValueError, match="captions have no classes"):
        Graddiff(sentences="captions")
    assert Graddiff(loss="contrastive", sentences="captions").sentences == "captions"


@pytest.mark.parametrize("settings", [{"forget_weight": 0.0}, {"forget_weight": -1.0}, {"retain_weight": -0.1}])
def test_weights_are_checked(settings):
    with pytest.raises(ValueError, match="weight"):
        Graddiff(**settings)
