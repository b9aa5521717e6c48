"""Steps on few tensors of each tower, in rounds. n samples, d embedding width."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.methods._lipschitz import importance, select
from clip_unlearn.methods._sides import Side

TINY: Final = 1e-12
PROBES: Final = 2
"""Random directions in which the sensitivity of held embeddings is measured."""

FAST, SLOW = 0.9, 0.99
"""Decay of the first and the second moment of the gradients."""


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The weights that have changed, the moments of their gradients, and the steps taken, on the model's device."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    first: Mapping[str, Tensor] = field(default_factory=dict)
    second: Mapping[str, Tensor] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)
    """Of each tower."""

    def as_tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, to be written."""
        counts = {tower: torch.tensor(count) for tower, count in self.steps.items()}
        groups = {"weights": self.weights, "first": self.first, "second": self.second, "steps": counts}
        return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> "State":
        """Return the state that `as_tensors` gave."""
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "first": {}, "second": {}, "steps": {}}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value.to(device)
        steps = {tower: int(count) for tower, count in groups.pop("steps").items()}
        return State(**groups, steps=steps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What tensors of a tower are chosen from, and how."""

    names: tuple[str, ...]
    sensitivity: Mapping[str, float]
    """How far held embeddings move when every entry of a tensor moves by one."""

    rule: Literal["gain", "mean", "all"]
    """gain: ||g||_1 / S, the first-order gain of a step of equal size in every entry, for what it risks, S the
    sensitivity. mean: mean |g|, as in the paper. all: every tensor that the gradient reaches."""

    def __call__(self, gradients: Mapping[str, Tensor], count: int) -> tuple[str, ...]:
        """Return the most important tensors by the gradient of what is moved; ties go by name."""
        if self.rule == "mean":
            return select({name: importance(one) for name, one in gradients.items()}, count)
        gains = {name: float(one.abs().sum()) / self.sensitivity[name] for name, one in gradients.items()}
        return select(gains, len(gains) if self.rule == "all" else count)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many tensors of a tower take how many steps of what length."""

    tensors: int
    steps: int
    change: float
    """How far a step would move held unit embeddings if its signs were random."""

    hold: float
    """Weight of what is held beside what is moved."""


@torch.enable_grad()
def one_round(
    model: Model, state: State, turns: Sequence[tuple[Side, Choice, Pace]], seed: int
) -> Mapping[str, Tensor]:
    """Return the state after one round, as tensors: on each side tensors are chosen, then a few steps are taken."""
    generator = torch.Generator().manual_seed(seed)
    for side, choice, pace in turns:
        leaves = _leaves(model, state, choice.names)
        draft = _draft(model, state, leaves)
        chosen = choice(_gradients(side.moved(draft, generator), leaves), pace.tensors)
        state = descended(model, state, side, {name: choice.sensitivity[name] for name in chosen}, pace, generator)
    return state.as_tensors()


@torch.enable_grad()
def descended(
    model: Model,
    state: State,
    side: Side,
    sensitivity: Mapping[str, float],
    pace: Pace,
    generator: torch.Generator,
) -> State:
    """Return the state after some steps down moved + hold x held on the k tensors named in `sensitivity`.

    w <- w - change / (S sqrt k) m / sqrt(v), m and v the moments of the gradient, corrected for their start (Adam), and
    S the sensitivity of each: steps of that size and random signs move held embeddings by `change` in root mean square.
    No weight decay.
    """
    leaves = _leaves(model, state, tuple(sensitivity))
    draft = _draft(model, state, leaves)
    first, second, count = dict(state.first), dict(state.second), state.steps.get(side.tower, 0)
    share = pace.change / max(1, len(leaves)) ** 0.5
    for _ in range(pace.steps):
        count += 1
        loss = side.moved(draft, generator) + pace.hold * side.held(draft, generator)
        for name, gradient in _gradients(loss, leaves).items():
            still = torch.zeros_like(gradient)
            first[name] = FAST * first.get(name, still) + (1 - FAST) * gradient
            second[name] = SLOW * second.get(name, still) + (1 - SLOW) * gradient.square()
            spread = (second[name] / (1 - SLOW**count)).sqrt().clamp_min(TINY)
            with torch.no_grad():
                leaves[name].sub_(share / sensitivity[name] / (1 - FAST**count) * first[name] / spread)
    weights = {**state.weights, **{name: leaf.detach() for name, leaf in leaves.items()}}
    return State(weights=weights, first=first, second=second, steps={**state.steps, side.tower: count})


@torch.enable_grad()
def sensitivities(model: Model, side: Side, names: Sequence[str], generator: torch.Generator) -> dict[str, float]:
    """Return how far held embeddings move, in root mean square, when every entry of a tensor moves by one.

    S^2 = E_u ||d(u . f) / d w||^2 / n over random directions u: the squared Frobenius norm of the Jacobian per sample.
    Tensors that no gradient reaches are left out.
    """
    leaves = _leaves(model, State(), names)
    draft = _draft(model, State(), leaves)
    total: dict[str, float] = {}
    for _ in range(PROBES):
        rows = side.sample(draft, generator)
        directions = torch.randn(rows.shape, generator=generator).to(rows)
        for name, one in _gradients((rows * directions).sum() / len(rows) ** 0.5, leaves).items():
            total[name] = total.get(name, 0.0) + float(one.square().sum()) / PROBES
    return {name: max(value, TINY) ** 0.5 for name, value in total.items()}


def _leaves(model: Model, state: State, names: Sequence[str]) -> dict[str, Tensor]:
    weights = {**model.weights, **state.weights}
    return {name: weights[name].detach().clone().requires_grad_() for name in names}


def _draft(model: Model, state: State, leaves: Mapping[str, Tensor]) -> Model:
    return model.replace({**state.weights, **leaves})


def _gradients(loss: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {name: one for name, one in zip(leaves, found, strict=True) if one is not None}
