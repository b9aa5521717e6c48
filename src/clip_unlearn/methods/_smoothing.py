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

MOMENTUM: Final = 0.9
"""Share of the mean gradient that stays in a step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """The weights that have changed and the mean gradients of those that are being changed, on the model's device."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    momentum: Mapping[str, Tensor] = field(default_factory=dict)

    def as_tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, to be written."""
        groups = {"weights": self.weights, "momentum": self.momentum}
        return {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> "State":
        """Return the state that `as_tensors` gave."""
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "momentum": {}}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value.to(device)
        return State(**groups)


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
    """Most that a step moves held unit embeddings, to first order."""

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
    """Return the state after some steps down moved + hold x held on the tensors named in `sensitivity`.

    m <- 0.9 m + 0.1 g;  w <- w - change (m / S^2) / sqrt(sum ||m||^2 / S^2), the sum over these tensors and S the
    sensitivity of each: to first order no step moves held embeddings by more than `change` in root mean square. Steps
    follow the gradient itself, which leaves alone what a name does not use; with Adam every entry moves alike.
    """
    leaves = _leaves(model, state, tuple(sensitivity))
    draft = _draft(model, state, leaves)
    momentum = {name: state.momentum.get(name, torch.zeros_like(leaf)) for name, leaf in leaves.items()}
    for _ in range(pace.steps):
        loss = side.moved(draft, generator) + pace.hold * side.held(draft, generator)
        found = _gradients(loss, leaves)
        for name, gradient in found.items():
            momentum[name] = MOMENTUM * momentum[name] + (1 - MOMENTUM) * gradient
        total = sum(float((momentum[name] / sensitivity[name]).square().sum()) for name in leaves) ** 0.5
        with torch.no_grad():
            for name, leaf in leaves.items():
                leaf.sub_(momentum[name], alpha=pace.change / max(total, TINY) / sensitivity[name] ** 2)
    weights = {**state.weights, **{name: leaf.detach() for name, leaf in leaves.items()}}
    return State(weights=weights, momentum={**state.momentum, **momentum})


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
