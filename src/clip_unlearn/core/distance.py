"""How far the models that a method edits are from models that never saw the class. Torch-free."""

from collections.abc import Sequence
from typing import Final, final

from clip_unlearn.core.config import Config
from clip_unlearn.core.record import GradeLine

MODELS: Final = 16
"""Least models of each side that an attacker who tells them apart has to have."""

TUG: Final = 0.95
"""Least lower end of the tug of war."""

INDISTINGUISHABLE: Final = "indistinguishable from retraining in these tests"
"""What may be said of F5, and no more."""


@final
class Estimate(Config):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@final
class Distance(Config):
    """A method against one sort of never-taught models of the lab.

    Beside each figure stands what it is of two such models with different seeds: no method can be expected to come
    nearer than they are to each other.
    """

    sort: str
    """`unseen` or `word`."""

    count: int
    """Edited models, and as many that never saw the class."""

    kolmogorov_smirnov: Estimate
    """Largest distance of the distributions of the class's log odds on its pictures; the mean over pairs of models."""

    kolmogorov_smirnov_floor: Estimate
    """The same of two models that never saw the class."""

    tug_of_war: Estimate
    """(1 - |difference of accuracy|) on pictures of the class times that on the others; the mean over pairs."""

    tug_of_war_floor: Estimate
    """The same of two models that never saw the class."""

    unlearning_score: Estimate
    """NoMUS: half the accuracy on the others, half how little tells pictures that were taught from new ones."""

    unlearning_score_floor: Estimate
    """The same of models that never saw the class: what it can be expected to be at best."""

    likelihood_ratio: Estimate
    """AUC of an attacker who tells edited from never-taught models by the log odds on every picture; 0.5 is none."""


def retraining_lines(found: Sequence[Distance]) -> tuple[GradeLine, ...]:
    """Return what F5 needs of each sort of never-taught models, and whether it holds.

    At least 16 models of each side; no larger distance of the log odds than two never-taught models have, by the
    intervals; a tug of war of surely 0.95; an attacker's AUC whose interval holds 0.5. It is a grade of a method on
    small models, not of one edit.
    """
    return tuple(line for one in found for line in _lines(one))


def _lines(one: Distance) -> tuple[GradeLine, ...]:
    distance, floor, tug, attack = (
        one.kolmogorov_smirnov,
        one.kolmogorov_smirnov_floor,
        one.tug_of_war,
        one.likelihood_ratio,
    )
    return (
        _line(one, "enough models", f"{one.count} of each side, at least {MODELS}", passed=one.count >= MODELS),
        _line(
            one,
            "log odds (KS)",
            f"lower end {distance.low:.2f}, at most {floor.high:.2f}, the upper end between two never-taught ones",
            passed=distance.low <= floor.high,
        ),
        _line(one, "tug of war (ToW)", f"lower end {tug.low:.2f}, at least {TUG}", passed=tug.low >= TUG),
        _line(
            one,
            "attacker's AUC (U-LiRA)",
            f"from {attack.low:.2f} to {attack.high:.2f}, has to hold 0.5",
            passed=attack.low <= 0.5 <= attack.high,
        ),
    )


def _line(one: Distance, what: str, why: str, *, passed: bool) -> GradeLine:
    return GradeLine(grade="F5", what=f"{what}, {one.sort}", passed=passed, why=why)
