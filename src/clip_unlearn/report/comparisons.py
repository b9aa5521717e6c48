"""Readings put side by side: the model before the edit, after it, and the paired change."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from clip_unlearn.core.attacks import WORST, has_power
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.recovery import RATIO

AVERAGE = "average score"
"""A total that says over how many data sets it is taken."""

_SHARES = ("accuracy", "reciprocal rank", "share", "recall", "precision")
"""Words for values in [0, 1], also where the ends of an interval for a mean leave that range."""

_SIDES: tuple[Subject, ...] = ("before", "after", "change", "control")

Unit: TypeAlias = Literal["percent", "cosine", "plain"]
Verdict: TypeAlias = Literal["", "as wanted", "worse", "no clear change"]


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was measured under one name, about one class, domain or wording."""

    name: str
    of: str
    before: Reading | None = None
    after: Reading | None = None
    change: Reading | None = None
    control: Reading | None = None
    """Of a model that is known to hold what an edit hides, under the same attack."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Return the readings that are there, the edited model first."""
        return tuple(one for one in (self.after, self.before, self.change, self.control) if one is not None)

    @property
    def count(self) -> int:
        """Return the number of independent items behind the values."""
        return self.readings[0].count

    @property
    def unit(self) -> Unit:
        """Return how the values are written: cosines by name, shares by name or range, everything else as it is."""
        if any(word in self.name for word in ("drift", "cosine", "AUC", "score")):
            return "cosine"
        levels = [reading for reading in (self.before, self.after) if reading is not None]
        values = [reading.value for reading in levels]
        if not any(word in self.name for word in _SHARES):
            values += [end for reading in levels for end in (reading.low, reading.high)]
        values += [] if levels or self.change is None else [abs(self.change.value)]
        return "percent" if all(0 <= value <= 1 for value in values if math.isfinite(value)) else "plain"

    @property
    def power(self) -> bool:
        """Return whether an attack brings back what is known to be there, so that its low reading shows something."""
        return self.before is not None and self.control is not None and has_power(self.before, self.control)

    @property
    def shift(self) -> float:
        """Return after minus before, from the paired reading where there is one; 0 where it is not known."""
        if self.change is not None and math.isfinite(self.change.value):
            return self.change.value
        if self.before is None or self.after is None:
            return 0.0
        difference = self.after.value - self.before.value
        return difference if math.isfinite(difference) else 0.0

    @property
    def verdict(self) -> Verdict:
        """Return whether the interval of the change lies on the wished side of zero, on the other, or holds zero."""
        if self.change is None or self.change.better == "neither":
            return ""
        if self.change.low <= 0 <= self.change.high:
            return "no clear change"
        if not (self.change.low > 0 or self.change.high < 0):
            return ""
        return "as wanted" if (self.change.low > 0) == (self.change.better == "high") else "worse"


def compare(readings: Iterable[Reading]) -> tuple[Comparison, ...]:
    """Return the readings side by side, in the order of first appearance; one that stands twice gets its own row.

    Of a maximum over attempts the worst one before the edit is compared with the worst one after it. Readings of
    references, and what follows from them, are no part of this: `recovered` has them.
    """
    turns: Counter[tuple[str, str, Subject]] = Counter()
    rows: dict[tuple[str, str, int], dict[Subject, Reading]] = {}
    for reading in readings:
        if reading.subject == "reference" or reading.name == RATIO:
            continue
        of = "" if reading.name.startswith(WORST) else reading.of
        turn = turns[reading.name, of, reading.subject]
        rows.setdefault((reading.name, of, turn), {})[reading.subject] = reading
        turns[reading.name, of, reading.subject] += 1
    return tuple(_joined(name, row) for (name, _, _), row in rows.items())


def _joined(name: str, row: dict[Subject, Reading]) -> Comparison:
    before, after, change, control = (row.get(subject) for subject in _SIDES)
    of = next((reading.of for reading in (after, before, change, control) if reading is not None), "")
    return Comparison(name=name, of=of, before=before, after=after, change=change, control=control)
