"""Contrast with retained images: what attracts, what repels, and the loss against the formula."""

import math

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
    losses,
    numbers,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.errors import DataError
from clip_unlearn.methods.contrastive_unlearning import ContrastiveUnlearning, loss_of


def written(step, own: str, temperature: float) -> float:
    """Return the contrastive part in loops."""
    images, names, total = numbers(step.forget.images), numbers(step.names), 0.0
    labels = step.forget.labels.tolist()
    for place, image in enumerate(images):
        repelling = {
            "none": [],
            "name": [names[labels[place]]],
            "images": [other for at, other in enumerate(images) if at != place and labels[at] == labels[place]],
        }[own]
        driven = sum(math.exp(image @ one / temperature) for one in repelling)
        pulled = np.mean([image @ one / temperature for one in numbers(step.retain.images)])
        total += (math.log(driven) if repelling else 0.0) - pulled
    return total / len(images)


@pytest.mark.parametrize("own", ["name", "images", "none"])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(3.0, 1.0), (0.5, 0.0)])
def test_the_loss_is_the_formula(own, temperature, forget_weight, retain_weight):
    step = fake_step()
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    method = ContrastiveUnlearning(
        own=own, temperature=temperature, forget_weight=forget_weight, retain_weight=retain_weight
    )
    wanted = forget_weight * written(step, own, temperature) + retain_weight * kept
    assert value(loss_of(method, step)) == pytest.approx(wanted, abs=1e-9)


def test_an_image_alone_of_its_class_is_not_repelled_by_images():
    step = fake_step(forget=1, forgotten=1)
    found = {own: value(loss_of(ContrastiveUnlearning(own=own), step)) for own in ("images", "none", "name")}
    assert found["images"] == found["none"] != found["name"]


@pytest.mark.parametrize("own", ["name", "images", "none"])
def test_the_gradient_is_that_of_the_loss(own):
    method, step = ContrastiveUnlearning(own=own), fake_step()
    assert reached(loss_of(method, step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_images_go_towards_others_and_away_from_their_class():
    step = fake_step(forgotten=1)
    method = ContrastiveUnlearning(retain_weight=0.0)
    slope = torch.autograd.grad(loss_of(method, step), step.forget.images)[0]
    moved = -slope @ torch.stack([step.retain.images.detach().mean(0), step.names[0].detach()]).T
    wanted = step.retain.images.detach().mean(0) - step.names[0].detach()
    assert (-slope @ wanted > 0).all()
    assert (moved[:, 0] > moved[:, 1]).all()


def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), ContrastiveUnlearning(descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        ContrastiveUnlearning(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize("settings", [{"forget_weight": 0.0}, {"retain_weight": -1.0}, {"temperature": 0.0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="greater than"):
        ContrastiveUnlearning(**settings)
