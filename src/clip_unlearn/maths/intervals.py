"""Intervals and tests for counted outcomes. No random state: every function is exact or closed form."""

import math

from scipy import special

CONFIDENCE = 0.95


def wilson(successes: float, count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the two-sided Wilson score interval of a proportion, in [0, 1].

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p = successes/count. Where items count as a part of
    a success, `successes` being the sum of values in [0, 1], it is on the safe side: their variance is at most p(1-p).

    Raises:
        ValueError: if `count` < 1 or `successes` is outside 0..count.
    Source: Wilson 1927.
    """
    _check(successes, count)
    z = float(special.ndtri(0.5 + confidence / 2))
    share = successes / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == count else min(1.0, (centre + half) / scale)
    return low, high


def clopper_pearson(
    successes: int, count: int, *, tests: int = 1, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return the exact interval of a proportion, made wide enough for the worst of `tests` proportions.

    Beta quantiles at (1 - confidence) / (2 tests) per side. With `tests` = M the interval of every one of M proportions
    holds at once, so it holds for the largest, whichever that is: what an attacker who tries M names is entitled to.

    Raises:
        ValueError: if `count` < 1, `successes` is outside 0..count or `tests` < 1.
    Source: Clopper and Pearson 1934; Bonferroni's inequality.
    """
    _check(successes, count)
    if tests < 1:
        raise ValueError(f"tests must be at least 1, not {tests}")
    tail = (1 - confidence) / (2 * tests)
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, count - successes + 1, tail))
    high = 1.0 if successes == count else float(special.betaincinv(successes + 1, count - successes, 1 - tail))
    return low, high


def paired_difference(gained: float, lost: float, count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return an interval for the change of a proportion measured twice on the same items.

    Bonett-Price: (g + 1 - l - 1)/(n + 2) -+ z sqrt((p+ + p-  - (p+ - p-)^2)/(n + 2)) with p+ = (g+1)/(n+2),
    p- = (l+1)/(n+2); `gained` items went from wrong to right, `lost` from right to wrong. In [-1, 1]. Where items count
    as a part of a success, the sums of all rises and of all falls; on the safe side then, as `wilson` is.

    Raises:
        ValueError: if `count` < 1 or more items changed than there are.
    Source: Bonett and Price 2012, Journal of Educational and Behavioral Statistics 37(4).
    """
    _check(gained + lost, count)
    z = float(special.ndtri(0.5 + confidence / 2))
    up, down = (gained + 1) / (count + 2), (lost + 1) / (count + 2)
    half = z * math.sqrt((up + down - (up - down) ** 2) / (count + 2))
    return max(-1.0, up - down - half), min(1.0, up - down + half)


def independent_difference(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Return an interval for the difference of two proportions of separate items, first less second; in [-1, 1].

    Newcombe's hybrid score interval: with shares p, q and Wilson intervals (l, u), (m, v) of the two,
    p - q - sqrt((p - l)^2 + (v - q)^2) to p - q + sqrt((u - p)^2 + (q - m)^2). Each proportion is given as
    (successes, count).

    Raises:
        ValueError: if a count is < 1 or successes are outside 0..count.
    Source: Newcombe 1998, Statistics in Medicine 17, method 10.
    """
    (low, high), (other_low, other_high) = (wilson(*each, confidence=confidence) for each in (first, second))
    share, other = first[0] / first[1], second[0] / second[1]
    below, above = math.hypot(share - low, other_high - other), math.hypot(high - share, other - other_low)
    return max(-1.0, share - other - below), min(1.0, share - other + above)


def mcnemar(gained: int, lost: int) -> float:
    """Return the exact two-sided p-value that gains and losses of the same items are equally likely.

    min(1, 2 P[B <= min(g, l)]) with B ~ Binomial(g + l, 1/2); 1 when nothing changed.
    Source: McNemar 1947, exact form.
    """
    changed = gained + lost
    if changed == 0:
        return 1.0
    return min(1.0, 2 * float(special.bdtr(min(gained, lost), changed, 0.5)))


def mean_interval(values: list[float], *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Student's t interval for the mean of independent values; both ends equal the mean for a single value.

    Raises:
        ValueError: if there are no values.
    """
    if not values:
        raise ValueError("no values")
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, mean
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = student(len(values), confidence=confidence) * spread / math.sqrt(len(values))
    return mean - half, mean + half


def student(count: int, *, confidence: float = CONFIDENCE) -> float:
    """Return how many standard errors an end of Student's interval is from the mean of so many values, two at least."""
    return float(special.stdtrit(count - 1, 0.5 + confidence / 2))


def _check(successes: float, count: int) -> None:
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} of {count} is not a proportion")
