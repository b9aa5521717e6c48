"""Tests of differences between methods: paired over classes, and many at once. Exact, or seeded."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from clip_unlearn.maths.intervals import CONFIDENCE


def holm(values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values that hold for all tests at once, in the order given.

    Sorted, the i-th smallest of m becomes max over j <= i of min(1, (m - j + 1) p_j); a value that is no number stays
    one and counts as no test.

    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    order = sorted((place for place, one in enumerate(values) if not math.isnan(one)), key=lambda place: values[place])
    adjusted, highest = list(values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * values[place]))
        adjusted[place] = highest
    return tuple(adjusted)


def signed_rank(differences: Sequence[float]) -> float:
    """Return Wilcoxon's two-sided p-value that paired differences are symmetric about 0; 1 where all of them are 0.

    Exact for up to 50 differences without ties, and by the normal approximation else; zeros are left out.

    Source: Wilcoxon 1945; `scipy.stats.wilcoxon`.
    """
    moved = [one for one in differences if one]
    return float(stats.wilcoxon(moved).pvalue) if moved else 1.0


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return Fisher's exact two-sided p-value that two proportions (successes, count) of separate items are equal."""
    table = [[hits, count - hits] for hits, count in (first, second)]
    return float(stats.fisher_exact(table).pvalue)


def cluster_interval(
    groups: Sequence[Sequence[float]], *, draws: int = 10_000, seed: int = 0, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return a bootstrap interval for the mean of values of which groups go together, such as images of a class.

    Whole groups are drawn with replacement, as many as there are; the percentiles of the mean of what was drawn. With
    a fixed seed. Few groups (under ten) give intervals that are too narrow.

    Raises:
        ValueError: if there is no group, or one is empty.
    Source: Miller 2024, arXiv 2411.00640, on clustered items.
    """
    if not groups or not all(len(group) for group in groups):
        raise ValueError("no groups, or an empty one")
    sums = np.array([math.fsum(group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    chosen = np.random.default_rng(seed).integers(len(groups), size=(draws, len(groups)))
    means = sums[chosen].sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
