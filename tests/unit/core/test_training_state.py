"""A training state as named tensors: nothing is lost on the way through a file, and what it chooses."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.marks import Mark
from clip_unlearn.core.training_state import TrainingState
from clip_unlearn.files import tensors

CPU = torch.device("cpu")


def mark(hits: int, probability: float) -> Mark:
    return Mark(
        forget_hits=hits, forget_count=11, retain_hits=12 + hits, retain_count=33, forget_probability=probability
    )


def some(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = ["tower.layers.0/odd.weight", "tower.bias", *(f"late.{place}" for place in range(11)), "a"]
    return {name: torch.randn(3, place % 3 + 1, generator=generator) for place, name in enumerate(names)}


FULL = TrainingState(
    weights=some(1),
    optimiser={"0/step": torch.tensor(3.0), "0/exp_avg": torch.randn(3, 2), "1/row_var": torch.randn(3, 1)},
    kept=some(2),
    step=30,
    marks=(mark(11, 0.1), mark(3, 1 / 3), mark(4, 0.7)),
    losses=(0.1, 1 / 3, -2.5e-7),
    best=1,
    waited=1,
    factor=0.5,
    part=8,
)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "state",
    [
        FULL,
        TrainingState(weights=some(1)),
        dataclasses.replace(FULL, kept=None, best=0),
        dataclasses.replace(FULL, marks=(), kept=None, best=0),
        dataclasses.replace(FULL, losses=(), optimiser={}),
        dataclasses.replace(FULL, marks=(mark(0, 1.0),), best=0, kept=None),
    ],
    ids=["full", "bare", "none better", "no looks", "no steps", "one look"],
)
def test_a_state_comes_back_whole(tmp_path: Path, state):
    tensors.write(tmp_path / "state.safetensors", state.as_tensors())
    found = TrainingState.of_tensors(tensors.read(tmp_path / "state.safetensors"), CPU)
    assert equal(found.weights, state.weights)
    assert list(found.weights) == list(state.weights), "the optimiser knows them by their places"
    assert equal(found.optimiser, state.optimiser)
    assert (found.kept is None) == (state.kept is None)
    assert equal(found.kept or {}, state.kept or {})
    for name in ("step", "marks", "losses", "best", "waited", "factor", "part"):
        assert getattr(found, name) == getattr(state, name), name
        assert type(getattr(found, name)) is type(getattr(state, name)), name


def test_every_field_is_written():
    """A field that is new and not written would come back with its default."""
    names = {field.name for field in dataclasses.fields(TrainingState)}
    assert names == {"weights", "optimiser", "kept", "step", "marks", "losses", "best", "waited", "factor", "part"}
    defaults = TrainingState(weights={})
    assert all(getattr(FULL, name) != getattr(defaults, name) for name in names)


def test_what_is_chosen():
    assert FULL.chosen is FULL.kept, "the best look"
    assert dataclasses.replace(FULL, kept=None, best=0).chosen == {}, "the model before any step"
    bare = dataclasses.replace(FULL, marks=(), kept=None, best=0)
    assert bare.chosen is bare.weights, "the last state, where nobody looked"
