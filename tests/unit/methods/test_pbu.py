"""Partially blinded unlearning: the loss that climbs, and the leash that holds the weights."""

import math

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

from clip_unlearn.core.training import Descent
from clip_unlearn.errors import DataError
from clip_unlearn.methods import pbu
from clip_unlearn.methods.pbu import Pbu, loss_of, of_mean_one, pull_of


def random_tensors(seed):
    random = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=random, dtype=torch.float64) for name, shape in SHAPES.items()}


SHAPES = {"a": (3, 4), "b": (5,)}


def test_the_loss_is_the_formula():
    step = fake_step()
    wanted = -cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    assert value(loss_of(step)) == pytest.approx(wanted, abs=1e-9)
    assert reached(loss_of(step), step) == {"forget.images", "names"}
    check_gradient(loss_of, fake_step)


@pytest.mark.parametrize(("by_fisher", "by_distance"), [(0.7, 0.0), (0.0, 3.0), (2.0, 0.5)])
def test_the_pull_is_the_gradient_of_the_leash(by_fisher, by_distance):
    method = Pbu(fisher_weight=by_fisher, distance_weight=by_distance)
    before, fisher, now = (random_tensors(seed) for seed in (1, 2, 3))

    def leash(weights):
        total = 0.0
        for name, shape in SHAPES.items():
            for place in range(math.prod(shape)):
                moved = float(weights[name].flatten()[place] - before[name].flatten()[place].float())
                total += by_fisher * float(fisher[name].flatten()[place]) * moved**2 + by_distance * moved**2
        return total

    found = pull_of(method, before, fisher, now)
    assert found.keys() == SHAPES.keys()
    for name, one in found.items():
        for place in (0, one.numel() - 1):
            values = []
            for sign in (1, -1):
                nudged = {other: each.clone() for other, each in now.items()}
                nudged[name].view(-1)[place] += sign * 1e-6
                values.append(leash(nudged))
            assert float(one.flatten()[place]) == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-6)


def test_importance_has_the_mean_one_over_all_tensors():
    fisher = random_tensors(4)
    mean = torch.cat([one.flatten() for one in fisher.values()]).mean()
    found = of_mean_one(fisher)
    for name, one in fisher.items():
        torch.testing.assert_close(found[name], one / mean)
    assert float(torch.cat([one.flatten() for one in found.values()]).mean()) == pytest.approx(1.0)


def test_no_importance_anywhere_stays_none():
    assert not any(one.any() for one in of_mean_one({"a": torch.zeros(3), "b": torch.zeros(2)}).values())


def test_importance_is_the_mean_square_of_some_batches(tiny_clip, tmp_path, monkeypatch):
    asked = {}

    def importances(task, settings, *, batches, fold):
        asked.update(loss=task.loss, batches=batches, fold=fold, forget_batch=settings.forget_batch)
        return {name: torch.ones_like(task.model.weights[name]) for name in task.weights}

    monkeypatch.setattr(pbu, "importances", importances)
    Pbu(fisher_batches=5, descent=SHORT).forget(tiny_clip.model, labelled_request(tmp_path))
    assert asked == {"loss": loss_of, "batches": 5, "fold": "square", "forget_batch": 4}


def length(patch):
    return float(torch.stack([one.double().square().sum() for one in patch.deltas.values()]).sum().sqrt())


def test_each_weight_shortens_the_leash(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request = labelled_request(tmp_path)
    plain = Descent(
        steps=4, rate=0.1, check_every=4, optimiser="sgd", momentum=0.0, schedule="constant", clip=100.0, forget_batch=6
    )

    def moved(**weights):
        none = {"fisher_weight": 0.0, "distance_weight": 0.0}
        return length(Pbu(**none | weights, fisher_batches=2, descent=plain).forget(tiny_clip.model, request))

    free = moved()
    assert moved(fisher_weight=0.2) < 0.95 * free
    assert moved(distance_weight=2.0) < 0.95 * free


def test_the_loss_of_the_class_rises(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Pbu(descent=DOWN, fisher_batches=2)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, lambda _, step: loss_of(step), tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        Pbu(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize("settings", [{"fisher_weight": -1.0}, {"distance_weight": -1.0}, {"fisher_batches": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="greater than"):
        Pbu(**settings)
