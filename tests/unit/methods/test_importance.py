"""Importance of weights: gradients of batches, folded and averaged, and what happens when memory runs out."""

import pytest
import torch
from descent_cases import labelled_request

from clip_unlearn.core.descent import Task, trained_weights
from clip_unlearn.core.training import Descent
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import DivergedError, StorageError
from clip_unlearn.methods import _importance
from clip_unlearn.methods._importance import importances

SETTINGS = Descent(forget_batch=3, retain_batch=4)
FOLDS = {"gradient": lambda one: one, "square": lambda one: one * one, "magnitude": lambda one: one.abs()}


def loss(step):
    return ((step.forget.images @ step.names.T) ** 2).sum(1).mean()


@pytest.fixture(scope="module")
def pairs(tiny_clip, tmp_path_factory):
    return pairs_of(tiny_clip.model, labelled_request(tmp_path_factory.mktemp("pictures")))


def make_task(pairs, loss=loss, towers="both"):
    feed = PairFeed(pairs=pairs, forget_batch=3, retain_batch=4)
    return Task(model=pairs.model, feed=feed, loss=loss, weights=trained_weights(pairs.model, towers))


def literal(task, batches, fold):
    """Average over batches what `fold` makes of the gradient of the loss, written out."""
    total = {name: torch.zeros_like(task.model.weights[name]) for name in task.weights}
    for number in range(batches):
        leaves = {name: task.model.weights[name].detach().clone().requires_grad_() for name in task.weights}
        draft, inputs = task.model.replace(leaves), task.feed(number)
        images, names = draft.images(inputs.forget.pixels), draft.texts(inputs.names)
        images, names = images / images.norm(dim=1, keepdim=True), names / names.norm(dim=1, keepdim=True)
        value = sum(float(1) / len(images) * (image @ name) ** 2 for image in images for name in names)
        for name, one in zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True):
            total[name] = total[name] + fold(one) / batches
    return total


@pytest.mark.parametrize("fold", list(FOLDS))
@pytest.mark.parametrize("part", [None, 2])
def test_the_mean_over_batches_by_hand(pairs, fold, part):
    task = make_task(pairs)
    found = importances(task, Descent(**{**SETTINGS.model_dump(), "part": part}), batches=3, fold=fold)
    wanted = literal(task, 3, FOLDS[fold])
    assert tuple(found) == task.weights
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=1e-7)
    assert not any(one.requires_grad for one in found.values())


def test_the_model_stays(pairs):
    before = pairs.model.fingerprint
    importances(make_task(pairs), SETTINGS, batches=2, fold="square")
    assert pairs.model.fingerprint == before


def test_what_the_loss_does_not_depend_on_is_0(pairs):
    task = make_task(pairs, lambda step: (step.forget.images @ step.before_names[0]).sum())
    found = importances(task, SETTINGS, batches=1, fold="magnitude")
    reached = {name for name, one in found.items() if one.any()}
    assert reached
    assert reached <= set(trained_weights(pairs.model, "image"))
    assert found.keys() - reached >= set(trained_weights(pairs.model, "text"))


@pytest.fixture
def gradients(monkeypatch):
    """Replace the gradient by one that needs so much memory for each input; return the parts that were tried."""

    def use(room):
        tried = []

        def gradient(task, settings, weights, number):
            part = settings.part or max(settings.forget_batch, settings.retain_batch)
            tried.append((number, part))
            if part > room:
                raise MemoryError
            return 0.0, {task.weights[0]: torch.full_like(weights[task.weights[0]], float(number))}

        monkeypatch.setattr(_importance, "gradient", gradient)
        return tried

    return use


def test_parts_get_smaller_until_they_fit_and_stay_so(pairs, gradients):
    tried, task = gradients(1), make_task(pairs)
    found = importances(task, Descent(forget_batch=3, retain_batch=8), batches=3, fold="gradient")
    assert tried == [(0, 8), (0, 4), (0, 2), (0, 1), (1, 1), (2, 1)]
    assert float(found[task.weights[0]].mean()) == pytest.approx(1.0)
    assert not found[task.weights[1]].any()


def test_no_room_for_a_single_image_is_an_error(pairs, gradients):
    gradients(0)
    with pytest.raises(StorageError, match=r"does not hold the pass of a single image\. Use another device\.$"):
        importances(make_task(pairs), SETTINGS, batches=1, fold="square")


def test_no_number_is_an_error(pairs):
    task = make_task(pairs, lambda step: loss(step) * torch.nan)
    with pytest.raises(DivergedError, match=r"^Weighing the weights failed: .* at step 0\. Give another model"):
        importances(task, SETTINGS, batches=2, fold="gradient")
