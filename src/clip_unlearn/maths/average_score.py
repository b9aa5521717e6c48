"""What is left of the forgotten and what is lost of the rest, in one number."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt

RESAMPLES: Final = 4000
"""Resamples of the bootstrap."""

SEED: Final = 0
"""Seed of the bootstrap: equal outcomes have equal intervals."""

Counts = npt.NDArray[np.int64]


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How many items of one set were right before and after an edit."""

    both: int
    """Right before and after."""

    lost: int
    """Right before only."""

    gained: int
    """Right after only."""

    neither: int
    """Right neither before nor after."""

    @property
    def count(self) -> int:
        """Return how many items there are."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def before(self) -> int:
        """Return how many were right before."""
        return self.both + self.lost

    @property
    def after(self) -> int:
        """Return how many were right after."""
        return self.both + self.gained


def average_score(forgotten: Outcome, kept: Sequence[Outcome]) -> float:
    """Return [a'/a + sum over kept sets of max(0, (b - b')/b)] / (1 + kept sets): lower is better.

    a and a' are how many of the forgotten are right before and after, b and b' the same of a set to be kept. 0:
    nothing is left of the forgotten and nothing is lost. An edit that changes nothing has 1 / (1 + kept sets). Every
    term is in [0, 1], except that the first one is above 1 where the forgotten are recognised better than before.

    Raises:
        ValueError: if nothing of a set was right before, where the term is not defined.
    Source: Kravets and Namboodiri 2024, arXiv 2407.07485, with three other sets beside the retained classes.
    """
    if not all(one.before for one in (forgotten, *kept)):
        raise ValueError("a set of which nothing was right before has no relative change")
    terms = [forgotten.after / forgotten.before, *(max(0.0, 1 - one.after / one.before) for one in kept)]
    return sum(terms) / len(terms)


def average_score_interval(
    forgotten: Outcome, kept: Sequence[Outcome], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the average score when the items of every set are drawn again.

    Each of 4000 resamples draws every set on its own, with replacement, and an item with its answers before and after,
    so the comparison stays paired. That is a multinomial draw of the four outcomes. Resamples in which nothing of a
    set was right before have no score and are left out. The ends are widened to the value itself where it lies
    outside, which happens because falls below zero count as none. What never varies in the sample never varies here:
    where no item of the forgotten is right afterwards, that term has no spread; its own Wilson interval tells more.

    Raises:
        ValueError: as `average_score` does.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    value = average_score(forgotten, kept)
    generator = np.random.default_rng(SEED)
    (was, now), others = _drawn(forgotten, generator), [_drawn(one, generator) for one in kept]
    defined = np.all([was > 0, *(before > 0 for before, _ in others)], axis=0)
    total = now[defined] / was[defined]
    for before, after in others:
        total = total + np.maximum(0.0, 1 - after[defined] / before[defined])
    tail = (1 - confidence) / 2
    low, high = np.quantile(total / (1 + len(kept)), [tail, 1 - tail])
    return min(value, float(low)), max(value, float(high))


def _drawn(outcome: Outcome, generator: np.random.Generator) -> tuple[Counts, Counts]:
    """Return how many are right before and after in each resample: [4000], [4000]."""
    counts = np.array([outcome.both, outcome.lost, outcome.gained, outcome.neither])
    both, lost, gained, _ = generator.multinomial(outcome.count, counts / outcome.count, size=RESAMPLES).T
    return both + lost, both + gained
