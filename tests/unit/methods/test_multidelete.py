"""Modality decoupling and what is retained beside it: the loss part by part, with classes and with captions."""

import numpy as np
import pytest
import torch
from descent_cases import (
    DOWN,
    SHORT,
    captioned_request,
    check_gradient,
    check_same_bytes,
    fake_step,
    labelled_request,
    losses,
    numbers,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.methods.multidelete import Multidelete, loss_of


def squared(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([(a - b) ** 2 for a, b in zip(found.flatten(), wanted.flatten(), strict=True)]))


def both_ways(side, texts: np.ndarray) -> float:
    """Return the error of a side's cosines against those of the model before with some texts, in both directions."""
    now = numbers(side.images) @ numbers(side.texts).T
    before = numbers(side.before_images) @ texts.T
    return squared(now, before) + squared(now.T, before.T)


def unimodal(side) -> float:
    images = squared(numbers(side.images), numbers(side.before_images))
    return images + squared(numbers(side.texts), numbers(side.before_texts))


def strangers(step, kind: str) -> np.ndarray:
    random = step.fresh_generator()
    if kind == "forget":
        return numbers(step.forget.before_texts)[torch.randperm(4, generator=random).numpy()]
    return numbers(step.retain.before_texts)[torch.randint(6, (4,), generator=random).numpy()]


@pytest.mark.parametrize("kind", ["retain", "forget"])
@pytest.mark.parametrize("whose", ["forget", "retain", "both"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (2.0, 0.0, 0.0), (0.5, 3.0, 0.0), (0.5, 0.0, 4.0)])
def test_the_loss_is_the_formula(kind, whose, weights):
    step = fake_step()
    held = {"forget": [step.forget], "retain": [step.retain], "both": [step.forget, step.retain]}[whose]
    parts = (
        both_ways(step.forget, strangers(step, kind)),
        both_ways(step.retain, numbers(step.retain.before_texts)),
        np.mean([unimodal(side) for side in held]),
    )
    names = ("decoupling_weight", "multimodal_weight", "unimodal_weight")
    method = Multidelete(strangers=kind, unimodal_pairs=whose, **dict(zip(names, weights, strict=True)))
    wanted = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    assert value(loss_of(method, step)) == pytest.approx(wanted, abs=1e-9)


def test_strangers_come_from_all_retain_pairs():
    step = fake_step(forget=300)
    texts = step.retain.before_texts
    before = step.forget.before_images @ texts.T
    method = Multidelete(multimodal_weight=0.0, unimodal_weight=0.0)
    torch.manual_seed(0)
    slope = torch.autograd.grad(loss_of(method, step), step.forget.images)[0]
    drawn = torch.randint(6, (300,), generator=step.fresh_generator())
    assert set(drawn.tolist()) == set(range(6))
    error = step.forget.images @ step.forget.texts.T - before[:, drawn]
    torch.testing.assert_close(slope, 4 * error @ step.forget.texts / error.numel())


def test_one_class_shuffled_in_itself_changes_nothing():
    step = fake_step(forgotten=1, at_start=True)
    same = step.forget.before_texts[:1].expand(4, -1)
    step.forget.texts.detach().copy_(same)
    step.forget.before_texts.copy_(same)
    found = {kind: value(loss_of(Multidelete(strangers=kind), step)) for kind in ("forget", "retain")}
    assert found["forget"] == pytest.approx(0, abs=1e-12)
    assert found["retain"] > 0.01


@pytest.mark.parametrize("whose", ["forget", "both"])
def test_the_gradient_is_that_of_the_loss(whose):
    method, step = Multidelete(unimodal_pairs=whose), fake_step()
    assert reached(loss_of(method, step), step) == {
        f"{a}.{b}" for a in ("forget", "retain") for b in ("images", "texts")
    }
    check_gradient(lambda each: loss_of(method, each), fake_step)


@pytest.mark.parametrize("make", [labelled_request, captioned_request])
def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch, make):
    take_the_last_state(monkeypatch)
    request, method = make(tmp_path), Multidelete(descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before


def test_captions_can_be_asked_for_and_other_senses_told(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request = captioned_request(tmp_path)
    plain, told = (
        Multidelete(sentences="captions", other_senses=senses, descent=SHORT).forget(tiny_clip.model, request)
        for senses in ((), ("red cat", "old cat", "big cat"))
    )
    assert any(not torch.equal(delta, told.deltas[name]) for name, delta in plain.deltas.items())


@pytest.mark.parametrize("settings", [{"decoupling_weight": 0.0}, {"unimodal_weight": -1.0}, {"multimodal_weight": -1}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="greater than"):
        Multidelete(**settings)
