"""What readings of attacks are called, and when an attack had power. Torch-free: reports are made from it."""

from typing import Final

from clip_unlearn.core.record import Reading

POWER: Final = 0.5
"""Share of the original's accuracy that an attack must bring back where the class is known to be hidden."""

WORST: Final = "worst "
"""What the name of the largest of several attempts begins with."""

UNATTACKED: Final = "without the attack"
"""What a reading is about that an attack is compared with."""

QUALIFIED: Final[frozenset[str]] = frozenset(
    {
        "wording accuracy",
        "ensemble accuracy",
        "image refit accuracy",
        "text refit accuracy",
        "module revert accuracy",
        "fine-tuning accuracy",
        "rounding accuracy",
        "interpolation accuracy",
    }
)
"""Attacks, by what their reading is called, that tell models which hold a class from models that never saw it with an
AUC of at least 0.95 against both sorts of them, over 18 models each (benchmarks/results/lab.md). No grade up to F3 uses
others as evidence that something is gone; F4 holds attacks that are shown the class against a reference in place."""


def has_power(before: Reading, control: Reading) -> bool:
    """Return whether an attack brings back at least half of what the original recognised, where it is known to be."""
    return before.value > 0 and control.value >= POWER * before.value
