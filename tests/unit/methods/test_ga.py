"""Gradient ascent: both losses, what they touch, and where it stops."""

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
    numbers,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.errors import DataError
from clip_unlearn.methods.ga import Ga, loss_of


def test_classification_is_the_cross_entropy_of_forget_images_upside_down():
    step = fake_step()
    written = -cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    assert value(loss_of(Ga(), step)) == pytest.approx(written, abs=1e-9)


def test_agreement_is_the_mean_cosine_of_matched_pairs():
    step = fake_step()
    pairs = zip(numbers(step.forget.images), numbers(step.forget.texts), strict=True)
    written = sum(sum(image * text) for image, text in pairs) / 4
    assert value(loss_of(Ga(loss="agreement"), step)) == pytest.approx(written, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [("classification", {"forget.images", "names"}), ("agreement", {"forget.images", "forget.texts"})],
)
def test_only_what_is_to_be_forgotten_is_learned_from(loss, wanted):
    step, method = fake_step(), Ga(loss=loss)
    assert reached(loss_of(method, step), step) == wanted
    check_gradient(lambda each: loss_of(method, each), fake_step)


@pytest.mark.parametrize("loss", ["classification", "agreement"])
def test_the_class_is_less_likely_afterwards(tiny_clip, tmp_path, monkeypatch, loss):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Ga(loss=loss, descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_captions_are_enough_for_agreement(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request = captioned_request(tmp_path)
    plain = Ga(loss="agreement", descent=SHORT)
    told = Ga(loss="agreement", descent=SHORT, other_senses=("red cat", "old cat", "big cat"))
    first, other = (each.forget(tiny_clip.model, request) for each in (plain, told))
    assert first.deltas
    assert any(not torch.equal(delta, other.deltas[name]) for name, delta in first.deltas.items())
    with pytest.raises(DataError, match="no class labels"):
        Ga(descent=SHORT).forget(tiny_clip.model, request)


def test_captions_without_classes_are_refused_as_a_setting():
    with pytest.raises(ValueError, match="captions have no classes"):
        Ga(sentences="captions")
    assert Ga(loss="agreement", sentences="captions").sentences == "captions"
