"""Where a training loop stands, as named tensors that a journal can hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core.marks import Mark

_COUNTS: Final = ("step", "best", "waited", "part")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """Weights and moments, and what the looks so far have found."""

    weights: Mapping[str, Tensor]
    """The trained weights, in float32."""

    optimiser: Mapping[str, Tensor] = field(default_factory=dict)
    kept: Mapping[str, Tensor] | None = None
    """The weights of the best look; None while that is the one before any step."""

    step: int = 0
    marks: tuple[Mark, ...] = ()
    losses: tuple[float, ...] = ()
    best: int = 0
    """Which of the marks is the best."""

    waited: int = 0
    """Looks since the best one."""

    factor: float = 1.0
    """On the learning rate."""

    part: int = 0
    """Inputs that are embedded at a time since memory ran out; 0 while it has not."""

    @property
    def chosen(self) -> Mapping[str, Tensor]:
        """Return the weights to take: those of the best look, or the last ones where nothing was looked at."""
        if not self.marks:
            return self.weights
        return self.kept or {}

    def as_tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, to be written."""
        # Files do not keep the order of names, and the optimiser knows weights by their places alone.
        placed = {f"{place}/{name}": weight for place, (name, weight) in enumerate(self.weights.items())}
        groups = {"weights": placed, "optimiser": self.optimiser, "kept": self.kept or {}}
        found = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
        marks = [list(vars(mark).values()) for mark in self.marks]
        numbers: dict[str, object] = {name: getattr(self, name) for name in _COUNTS}
        numbers |= {"marks": marks, "losses": self.losses, "factor": self.factor}
        return found | {f"number/{name}": torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> "TrainingState":
        """Return the state that `as_tensors` gave."""
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "optimiser": {}, "kept": {}, "number": {}}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value if group == "number" else value.to(device)
        numbers = groups["number"]
        counts = {name: int(numbers[name]) for name in _COUNTS}
        return TrainingState(
            weights=_in_order(groups["weights"]),
            optimiser=groups["optimiser"],
            kept=groups["kept"] or None,
            marks=tuple(_mark(row) for row in numbers["marks"].tolist()),
            losses=tuple(numbers["losses"].tolist()),
            factor=float(numbers["factor"]),
            **counts,
        )


def _in_order(placed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by name in the order of the places before their names."""
    keys = sorted(placed, key=lambda key: int(key.partition("/")[0]))
    return {key.partition("/")[2]: placed[key] for key in keys}


def _mark(row: list[float]) -> Mark:
    *counts, probability = row
    forget_hits, forget_count, retain_hits, retain_count = (int(count) for count in counts)
    return Mark(
        forget_hits=forget_hits,
        forget_count=forget_count,
        retain_hits=retain_hits,
        retain_count=retain_count,
        forget_probability=probability,
    )
