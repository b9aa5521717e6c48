"""What to search for, and what is written down about a search."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, final

from pydantic import Field

from clip_unlearn.core.config import Config
from clip_unlearn.core.record import Plain, Reading, Source
from clip_unlearn.core.request import Evidence
from clip_unlearn.runs.recipe import Recipe

NOTE: Final = (
    "The settings were chosen on the select part of the data, so what is measured there flatters them. Report what "
    "forget measures on the audit part, which the search never opened."
)

DIGITS: Final = 4
"""Significant digits of the numbers that are tried."""

Failure: TypeAlias = Literal["", "diverged", "nothing changed"]
Strategy: TypeAlias = Literal["bisection", "every combination", "tree-structured Parzen estimator"]


@final
class TuneOrder(Config):
    """What to search for."""

    recipe: Recipe
    """What to forget, of which model, with which method and on which data. A value that it gives for a setting that is
    searched is where a search over several settings starts."""

    search: tuple[str, ...]
    """Settings to search: `name=low:high`, `name=low:high:log` or `name=one,other`; a table's setting is `table.name`.
    """

    trials: int = Field(default=20, ge=2, le=10_000)
    """Most settings that are tried."""

    budget: float = Field(default=1.0, ge=0, le=100)
    """Percentage points of retained accuracy that may be lost on the select part."""

    timeout: float | None = Field(default=None, gt=0)
    """Seconds after which no further trial starts."""


@final
class Range(Config):
    """A setting between two numbers, both included."""

    setting: str
    low: float
    high: float
    log: bool = False
    """Whether steps are factors."""

    whole: bool = False
    """Whether it is a whole number."""

    def at(self, share: float) -> float:
        """Return the value a share of the way from `low` to `high`, of 4 significant digits; share in [0, 1]."""
        if self.log:
            value = float(self.low ** (1 - share) * self.high**share)
        else:
            value = (1 - share) * self.low + share * self.high
        return self.rounded(value)

    def rounded(self, value: float) -> float:
        """Return a value within the range of 4 significant digits; a whole number where the setting is one."""
        rounded = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        within = min(self.high, max(self.low, rounded))
        return int(within) if self.whole else float(within)


@final
class Choice(Config):
    """A setting that is one of several values."""

    setting: str
    values: tuple[Plain, ...]


Dimension: TypeAlias = Range | Choice


@final
class Trial(Config):
    """One set of settings, and what it did on the select part."""

    number: int
    settings: dict[str, Plain]
    """The settings that were searched."""

    seconds: float
    failure: Failure = ""
    reason: str = ""
    """Why it failed, where it did."""

    forget: Reading | None = None
    """Accuracy on images of what is to be forgotten; None where the trial failed."""

    retain: Reading | None = None
    """Accuracy on all other images."""

    cost: Reading | None = None
    """Change of the latter, paired."""

    within: bool = False
    """Whether the change is within the budget."""

    front: bool = False
    """Whether no other trial forgets and retains at least as well, and one of the two better."""


@final
class Tuning(Config):
    """What was tried, on what, and which settings were chosen; equal orders give equal trials but for the seconds."""

    kind: Literal["clip-unlearn tune"] = "clip-unlearn tune"
    schema_version: Literal[1] = 1
    version: str
    """Of this package."""

    command: str = ""
    model: Source
    data: Source
    """The images that chose."""

    evidence: Evidence | None
    """The images that the method learned from, where it learns from any."""

    order: TuneOrder
    dimensions: tuple[Dimension, ...]
    strategy: Strategy
    before: tuple[Reading, ...]
    """Accuracy of the unedited model: forget, then retain."""

    trials: tuple[Trial, ...]
    """In the order in which they were made."""

    chosen: int | None
    """Number of the chosen trial; None where none is within the budget."""

    timed_out: bool = False
    """Whether the time was up before the search was done."""

    note: str = NOTE

    @property
    def best(self) -> Trial | None:
        """Return the chosen trial."""
        return next((trial for trial in self.trials if trial.number == self.chosen), None)


def marked(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the trials with those marked that no other one beats: at least as good in both, better in one of them."""
    points = [(one.forget.value, -one.retain.value) if one.forget and one.retain else None for one in trials]
    known = [point for point in points if point is not None]

    def beaten(point: tuple[float, float]) -> bool:
        return any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in known)

    return tuple(
        one.model_copy(update={"front": point is not None and not beaten(point)})
        for one, point in zip(trials, points, strict=True)
    )


def preferred(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial within the budget that forgets most, of equals the one that retains most, then the first."""
    fitting = [one for one in trials if one.within]
    return min(fitting, key=rank, default=None)


def rank(trial: Trial) -> tuple[float, float]:
    """Return what orders trials that did not fail, the better one first."""
    if trial.forget is None or trial.retain is None:
        raise ValueError("a trial that failed has no rank")
    return trial.forget.value, -trial.retain.value
