"""Saliency unlearning: which weights it chooses, that no other moves by a bit, and the loss it descends."""

import dataclasses

import pytest
import torch
from descent_cases import (
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

from clip_unlearn.core.descent import trained_weights
from clip_unlearn.core.training import Descent
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import DataError
from clip_unlearn.methods import salun
from clip_unlearn.methods.salun import Salun, known_of, loss_of, salient

LEAKY = Descent(
    steps=3, rate=0.1, check_every=3, forget_batch=3, retain_batch=6, optimiser="sgd", weight_decay=0.1, momentum=0.9
)
"""Decay and momentum, both of which would move a weight without a gradient."""


@pytest.fixture
def drawn(monkeypatch):
    """Return a list that grows by the labels of every loss that is taken, forget images first."""
    seen, real = [], salun.classification

    def classification(images, names, labels, scale):
        seen.append(labels)
        return real(images, names, labels, scale)

    monkeypatch.setattr(salun, "classification", classification)
    return seen


def some_gradients():
    random = torch.Generator().manual_seed(3)
    return {name: torch.randn(shape, generator=random) * scale for name, shape, scale in SHAPES}


SHAPES = (("a", (7, 5), 1.0), ("b", (11,), 10.0), ("c", (2, 3, 4), 0.1))


@pytest.mark.parametrize("keep", [0.001, 0.25, 0.5, 0.9, 1.0])
def test_the_largest_gradients_of_all_tensors_together_are_kept(keep):
    gradients = some_gradients()
    ordered = sorted((-abs(float(x)), n, i) for n, one in gradients.items() for i, x in enumerate(one.flatten()))
    wanted = {(name, place) for _, name, place in ordered[: max(1, round(keep * len(ordered)))]}
    masks = salient(gradients, keep)
    assert {name: mask.shape for name, mask in masks.items()} == {name: one.shape for name, one in gradients.items()}
    assert {(n, i) for n, mask in masks.items() for i, one in enumerate(mask.flatten()) if one} == wanted


def test_equal_gradients_are_kept_together_and_none_that_is_0():
    gradients = {"a": torch.tensor([0.0, -2.0, 2.0, 1.0]), "b": torch.zeros(4)}
    assert salient(gradients, 1 / 8)["a"].tolist() == [False, True, True, False]
    masks = salient(gradients, 1.0)
    assert masks["a"].tolist() == [False, True, True, True]
    assert not masks["b"].any()


def test_the_mask_is_that_of_the_forget_images_own_class():
    step = fake_step()
    wanted = cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    assert value(known_of(step)) == pytest.approx(wanted, abs=1e-9)
    assert reached(known_of(step), step) == {"forget.images", "names"}


@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(1.0, 1.0), (0.5, 0.0), (2.0, 3.0)])
def test_the_loss_is_the_formula_for_the_classes_drawn(drawn, forget_weight, retain_weight):
    step = fake_step(forget=40)
    found = value(loss_of(Salun(forget_weight=forget_weight, retain_weight=retain_weight), step))
    wrong = cross_entropy(step.forget.images, step.names, drawn[0], step.scale)
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    assert found == pytest.approx(forget_weight * wrong + retain_weight * kept, abs=1e-9)
    assert set(drawn[0].tolist()) == {2, 3, 4}


def test_what_is_drawn_depends_on_the_generator_of_the_step_alone(drawn):
    for seed in (0, 0, 5):
        torch.manual_seed(len(drawn))
        loss_of(Salun(), dataclasses.replace(fake_step(forget=40), seed=seed))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[4])


def test_the_gradient_is_that_of_the_loss():
    step = fake_step()
    assert reached(loss_of(Salun(), step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(Salun(), each), fake_step)


def slopes(model, request, batches):
    """Return the mean gradient of the loss of forget images with their class, written out."""
    feed = PairFeed(pairs=pairs_of(model, request), forget_batch=LEAKY.forget_batch, retain_batch=LEAKY.retain_batch)
    names = trained_weights(model, "both")
    total = {name: torch.zeros_like(model.weights[name]) for name in names}
    for number in range(batches):
        leaves = {name: model.weights[name].detach().clone().requires_grad_() for name in names}
        draft, inputs = model.replace(leaves), feed(number)
        images, texts = draft.images(inputs.forget.pixels), draft.texts(inputs.names)
        logits = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T * model.logit_scale
        loss = -logits.log_softmax(1)[range(len(images)), inputs.forget.labels].mean()
        for name, one in zip(names, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            total[name] += one / batches
    return total


@pytest.mark.parametrize(("keep", "batches"), [(0.3, 1), (0.05, 3)])
def test_weights_outside_the_mask_stay_to_the_bit(tiny_clip, tmp_path, monkeypatch, keep, batches):
    take_the_last_state(monkeypatch)
    model, request = tiny_clip.model, labelled_request(tmp_path)
    patch = Salun(keep=keep, mask_batches=batches, descent=LEAKY).forget(model, request)
    flat = torch.cat([one.abs().flatten() for one in slopes(model, request, batches).values()])
    changed = torch.cat(
        [
            (patch.deltas[name] if name in patch.deltas else torch.zeros_like(model.weights[name])).flatten() != 0
            for name in trained_weights(model, "both")
        ]
    )
    least = flat.sort().values[-round(keep * len(flat))]
    wrong = changed & (flat < least * (1 - 1e-3)) | ~changed & (flat > least * (1 + 1e-3))
    assert changed.sum() == pytest.approx(keep * len(flat), rel=0.02)
    assert wrong.sum() <= 0.005 * changed.sum(), "rounding hides a tiny change, and no more"
    assert not (changed & (flat < least * (1 - 1e-3))).any()
    assert patch.deltas.keys() <= set(trained_weights(model, "both"))


def test_the_loss_falls_with_the_mask(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request = labelled_request(tmp_path)
    method = Salun(descent=Descent(steps=6, rate=3e-3, check_every=3, forget_batch=6, retain_batch=12))
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        Salun(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize(
    "settings", [{"keep": 0.0}, {"keep": 1.1}, {"mask_batches": 0}, {"forget_weight": 0.0}, {"retain_weight": -1.0}]
)
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="than"):
        Salun(**settings)
