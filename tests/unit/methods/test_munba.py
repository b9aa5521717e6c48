"""Nash bargaining: the weights of both gradients against the published form and the condition that defines them."""

import dataclasses
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
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.core.descent import trained_weights
from clip_unlearn.core.training import Descent
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.methods import munba
from clip_unlearn.methods.munba import Munba, agreed, kept_of, wrong_of

SHAPES = {"a": (3, 4), "b": (5,)}


def slope(seed, size=1.0):
    random = torch.Generator().manual_seed(seed)
    return {n: size * torch.randn(s, generator=random, dtype=torch.float64) for n, s in SHAPES.items()}


def flat(one):
    return np.concatenate([one[name].flatten().numpy() for name in SHAPES])


def published(kept, wrong):
    """Return both weights by the closed form of the public code."""
    first, mixed, third = kept @ kept, kept @ wrong, wrong @ wrong
    root = math.sqrt(first * third)
    of_kept = math.sqrt((first * third - mixed * root) / (first**2 * third - first * mixed**2))
    return of_kept, (1 - first * of_kept**2) / (mixed * of_kept)


@pytest.mark.parametrize("sizes", [(1.0, 1.0), (0.01, 3.0), (200.0, 1.0)])
@pytest.mark.parametrize("seed", range(4))
def test_the_weights_are_the_published_ones_and_solve_the_bargain(seed, sizes):
    kept, wrong = slope(seed, sizes[0]), slope(seed + 100, sizes[1])
    found, (first, second) = flat(agreed([kept, wrong])), (flat(kept), flat(wrong))
    own = np.linalg.lstsq(np.stack([first, second], 1), found, rcond=None)[0]
    assert own == pytest.approx(published(first, second), rel=1e-6)
    products = [found @ first, found @ second]
    assert products == pytest.approx(list(1 / own), rel=1e-6)


def test_the_direction_halves_the_angle_whatever_the_sizes():
    kept, wrong = slope(1), slope(2, 50.0)
    found, other = agreed([kept, wrong]), agreed([{name: 7 * one for name, one in kept.items()}, wrong])
    vectors = [one / np.linalg.norm(one) for one in (flat(found), flat(kept), flat(wrong))]
    assert vectors[0] @ vectors[1] == pytest.approx(vectors[0] @ vectors[2], abs=1e-9)
    assert np.linalg.norm(flat(found)) == pytest.approx(math.sqrt(2), rel=1e-6)
    assert flat(other) == pytest.approx(flat(found), rel=1e-6)


def test_gradients_at_right_angles_and_alike_have_a_bargain_too():
    """Where the published form divides by 0."""
    one, other = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 5.0])
    assert agreed([{"a": one}, {"a": other}])["a"].tolist() == pytest.approx([1.0, 1.0])
    assert agreed([{"a": one}, {"b": other}])["b"].tolist() == pytest.approx([0.0, 1.0])
    assert agreed([{"a": one}, {"a": 3 * one}])["a"].tolist() == pytest.approx([math.sqrt(2), 0.0])


@pytest.mark.parametrize("factor", [-1.0, -20.0, 0.0, torch.nan])
def test_there_is_no_bargain_with_an_opponent_or_with_nobody(factor):
    kept = {name: one.float() for name, one in slope(1).items()}
    wrong = {name: factor * one for name, one in kept.items()}
    assert agreed([kept, wrong]) == {}
    assert agreed([kept, {}]) == {}
    assert agreed([{}, kept]) == {}


def test_the_losses_are_the_formulas(monkeypatch):
    seen, real, step = [], munba.classification, fake_step(forget=60)
    monkeypatch.setattr(munba, "classification", lambda *given: seen.append(given[2]) or real(*given))
    kept, wrong = value(kept_of(step)), value(wrong_of(step))
    assert kept == pytest.approx(
        cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale), abs=1e-9
    )
    assert wrong == pytest.approx(cross_entropy(step.forget.images, step.names, seen[1], step.scale), abs=1e-9)
    assert set(seen[1].tolist()) == {2, 3, 4}
    wrong_of(dataclasses.replace(step, seed=9))
    wrong_of(fake_step(forget=60))
    assert torch.equal(seen[3], seen[1])
    assert not torch.equal(seen[2], seen[1])


def test_the_gradients_are_those_of_the_losses():
    step = fake_step()
    assert reached(kept_of(step), step) == {"retain.images", "names"}
    assert reached(wrong_of(step), step) == {"forget.images", "names"}
    check_gradient(kept_of, fake_step)
    check_gradient(wrong_of, fake_step)


def test_both_losses_fall(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Munba(descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, lambda _, step: wrong_of(step), tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_every_step_is_a_bargain_of_both_losses(tiny_clip, tmp_path, monkeypatch):
    """Of gradients over the trained weights, the one that retains first; without a bargain nothing changes."""
    seen = []

    def refuse(slopes):
        seen.append(slopes)
        return {}

    take_the_last_state(monkeypatch)
    monkeypatch.setattr(munba, "agreed", refuse)
    patch = Munba(descent=SHORT).forget(tiny_clip.model, labelled_request(tmp_path))
    assert patch.empty
    assert [len(slopes) for slopes in seen] == [2] * SHORT.steps
    assert all(one.keys() == set(trained_weights(tiny_clip.model, "both")) for slopes in seen for one in slopes)


@pytest.mark.parametrize("fixture", ["tiny_clip", "tiny_openclip"])
def test_attention_alone_may_change(request, tmp_path, monkeypatch, fixture):
    take_the_last_state(monkeypatch)
    model, asked = request.getfixturevalue(fixture).model, labelled_request(tmp_path)
    some = Munba(weights="attention", descent=SHORT).forget(model, asked).deltas
    every = Munba(descent=SHORT).forget(model, asked).deltas
    assert {name for name in every if "attn" in name} == set(some)
    assert set(some) < set(every)
    towers = [set(trained_weights(model, tower)) & set(some) for tower in ("image", "text")]
    assert all(towers)


def test_a_tower_without_attention_is_refused(tiny_dual, tmp_path):
    method = Munba(weights="attention", descent=Descent(**{**SHORT.model_dump(), "towers": "image"}))
    with pytest.raises(UnsupportedError, match=r"no attention layer\. Give --set weights=all\.$"):
        method.forget(tiny_dual.model, labelled_request(tmp_path))


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        Munba(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="weights"):
        Munba(weights="mlp")
