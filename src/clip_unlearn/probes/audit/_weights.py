"""Attacks that put other numbers in the place of weights. n images of the forgotten."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from torch import Tensor

from clip_unlearn.core.descent import readout_weights, trained_weights
from clip_unlearn.core.embedding_map import TOWERS
from clip_unlearn.core.model import Model

_NUMBERED: Final = re.compile(r"^(.*?\.\d+)\.")
"""A block of a tower: everything up to the first number of a name."""


def changed_weights(before: Model, after: Model) -> tuple[str, ...]:
    """Return the names of the weights whose values differ, sorted."""
    return tuple(
        sorted(
            name
            for name, weight in after.weights.items()
            if weight is not before.weights[name] and not bool((weight == before.weights[name]).all())
        )
    )


def module_of(name: str) -> str:
    """Return the block that a weight belongs to, or the layer itself where it is in none."""
    numbered = _NUMBERED.match(name)
    return numbered.group(1) if numbered else name.rpartition(".")[0] or name


def by_module(names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the names of weights by the block that they belong to."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(module_of(name), []).append(name)
    return {module: tuple(own) for module, own in groups.items()}


def last_block(model: Model) -> tuple[str, ...]:
    """Return the names of the weights of both towers' last blocks and last linear layers; all where one has none."""
    found: set[str] = set(readout_weights(model, "both"))
    for tower in TOWERS:
        names = trained_weights(model, tower)
        blocks = [match.group(1) for name in names if (match := _NUMBERED.match(name))]
        if not blocks:
            return trained_weights(model, "both")
        found.update(name for name in names if name.startswith(f"{blocks[-1]}."))
    return tuple(name for name in trained_weights(model, "both") if name in found)


def rewritten(model: Model, change: Callable[[Tensor], Tensor]) -> Model:
    """Return the model with every matrix of weights changed alike; tied weights stay tied, maps after it stay."""
    done: dict[int, Tensor] = {}
    changed: dict[str, Tensor] = {}
    for name, weight in model.weights.items():
        if weight.is_floating_point() and weight.ndim > 1:
            if id(weight) not in done:
                done[id(weight)] = change(weight.detach())
            changed[name] = done[id(weight)]
    return model.replace(changed)
