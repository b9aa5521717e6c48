"""How well one score tells two groups apart. Dimensions: m scores of the one group, n of the other."""

import math
from dataclasses import dataclass
from typing import Final, final

import torch
from scipy import special
from torch import Tensor

from clip_unlearn.maths.intervals import CONFIDENCE

HALVINGS: Final = 60
"""Halvings after which an end of an interval is exact to rounding."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Two groups in the order of one score; what all functions here need of it."""

    above: Tensor
    """Of each score of the first group, the share of the second that is lower, ties one half: [m] in float64."""

    below: Tensor
    """Of each score of the second group, the share of the first that is higher, ties one half: [n] in float64."""

    @property
    def auc(self) -> float:
        """Return the area under the ROC curve, in [0, 1].

        P[first > second] + P[first = second] / 2 over all m n pairs; 0.5 where the score tells nothing. NaN where a
        score is NaN: a broken model must not pass for one that tells nothing.
        """
        return float(self.above.mean())

    def interval(self, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the interval of the area, in [0, 1]: all areas t that the one found does not contradict.

        |auc - t| <= z sqrt(V(t)) with the variance of Hanley and McNeil at t, not at the area found, so that an area of
        0 or 1 has an interval too: V(t) = t (1 - t)(1 + N (1 - t) / (2 - t) + N t / (1 + t)) / (m n) and
        N = (m + n) / 2 - 1.

        Source: Hanley and McNeil 1982; Newcombe 2006, Statistics in Medicine 25, method 5.
        """
        area, (first, second) = self.auc, (len(self.above), len(self.below))
        if math.isnan(area):
            return math.nan, math.nan
        z = float(special.ndtri(0.5 + confidence / 2))
        return tuple(_end(area, outer, z, first, second) for outer in (0.0, 1.0))  # type: ignore[return-value]


def rank_groups(first: Tensor, second: Tensor) -> Ranking:
    """Return the ranking of two groups of scores. Shapes: [m], [n], m and n at least 1.

    Raises:
        ValueError: if a group is empty.
    """
    if not len(first) or not len(second):
        raise ValueError(f"{len(first)} and {len(second)} scores cannot be told apart")
    one, two = first.double(), second.double()
    if bool(one.isnan().any() | two.isnan().any()):
        return Ranking(above=torch.full_like(one, torch.nan), below=torch.full_like(two, torch.nan))
    return Ranking(above=_share_below(one, two), below=_share_below(-two, -one))


def change_interval(before: Ranking, after: Ranking, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return an interval for the area after minus the area before, of the same two groups scored twice. In [-1, 1].

    D -+ sqrt(a^2 + b^2 - 2 r a b), where a and b are the distances of the two areas from the ends of their own
    intervals that widen D, and r is the correlation of the two areas by DeLong; 0 where an area does not vary and the
    rankings differ.

    Raises:
        ValueError: if the rankings are of other groups.
    Source: DeLong, DeLong and Clarke-Pearson 1988; Zou and Donner 2008, Statistics in Medicine 27.
    """
    if (len(before.above), len(before.below)) != (len(after.above), len(after.below)):
        raise ValueError("the rankings are of groups of different sizes")
    was, now = before.auc, after.auc
    (was_low, was_high), (now_low, now_high) = (one.interval(confidence=confidence) for one in (before, after))
    together, difference = _correlation(before, after), now - was
    if math.isnan(difference):
        return math.nan, math.nan
    down = _joined(now - now_low, was_high - was, together)
    up = _joined(now_high - now, was - was_low, together)
    return max(-1.0, difference - down), min(1.0, difference + up)


def _share_below(scores: Tensor, others: Tensor) -> Tensor:
    ordered = others.sort().values
    lower, not_higher = (torch.searchsorted(ordered, scores.contiguous(), right=right) for right in (False, True))
    return (lower + not_higher).double() / (2 * len(others))


def _end(area: float, outer: float, z: float, first: int, second: int) -> float:
    """Return the area on the side of `outer` from which on areas contradict the one found."""
    inner = area
    for _ in range(HALVINGS):
        middle = (inner + outer) / 2
        if abs(area - middle) > z * math.sqrt(_variance(middle, first, second)):
            outer = middle
        else:
            inner = middle
    return inner


def _variance(area: float, first: int, second: int) -> float:
    size = (first + second) / 2 - 1
    spread = 1 + size * (1 - area) / (2 - area) + size * area / (1 + area)
    return area * (1 - area) * spread / (first * second)


def _correlation(before: Ranking, after: Ranking) -> float:
    if torch.equal(before.above, after.above) and torch.equal(before.below, after.below):
        return 1.0
    own = math.sqrt(_shared(before, before) * _shared(after, after))
    return min(1.0, max(-1.0, _shared(before, after) / own)) if own > 0 else 0.0


def _shared(one: Ranking, other: Ranking) -> float:
    """Return DeLong's covariance of two areas; a group of one score cannot say how it varies, and adds nothing."""
    pairs = ((one.above, other.above), (one.below, other.below))
    return sum(float(((a - a.mean()) * (b - b.mean())).sum()) / (len(a) - 1) / len(a) for a, b in pairs if len(a) > 1)


def _joined(first: float, second: float, together: float) -> float:
    return math.sqrt(max(0.0, first**2 + second**2 - 2 * together * first * second))
