"""Intervals against scipy, and against what they promise: coverage."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from clip_unlearn.maths.intervals import (
    clopper_pearson,
    independent_difference,
    mcnemar,
    mean_interval,
    paired_difference,
    wilson,
)

proportions = st.integers(1, 500).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count)))
confidences = st.sampled_from([0.8, 0.95, 0.99])


@given(proportion=proportions, confidence=confidences)
def test_wilson_is_scipys(proportion, confidence):
    expected = stats.binomtest(*proportion).proportion_ci(confidence, method="wilson")
    assert wilson(*proportion, confidence=confidence) == pytest.approx(tuple(expected), abs=1e-12)


@given(proportion=proportions, confidence=confidences)
def test_clopper_pearson_is_scipys(proportion, confidence):
    expected = stats.binomtest(*proportion).proportion_ci(confidence, method="exact")
    assert clopper_pearson(*proportion, confidence=confidence) == pytest.approx(tuple(expected), abs=1e-9)


def test_the_ends_of_the_scale_are_exact():
    for interval in (wilson, clopper_pearson):
        assert interval(0, 7)[0] == 0.0
        assert interval(7, 7)[1] == 1.0


@given(proportion=proportions, tests=st.integers(2, 50))
def test_more_tests_widen_the_interval_as_bonferroni_says(proportion, tests):
    wide = clopper_pearson(*proportion, tests=tests)
    assert wide == pytest.approx(clopper_pearson(*proportion, confidence=1 - 0.05 / tests), abs=1e-9)


@given(gained=st.integers(0, 60), lost=st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(gained, lost):
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, abs=1e-12)


@given(counts=st.tuples(*[st.integers(0, 40)] * 3))
def test_a_paired_difference_holds_its_shrunken_estimate_and_turns_around(counts):
    gained, lost, same = counts
    count = gained + lost + same + 1
    low, high = paired_difference(gained, lost, count)
    assert -1 <= low <= (gained - lost) / (count + 2) <= high <= 1
    assert paired_difference(lost, gained, count) == pytest.approx((-high, -low))


@pytest.mark.parametrize("rates", [(0.02, 0.02), (0.3, 0.05), (0.01, 0.6)])
def test_a_paired_difference_covers_the_truth(rates):
    """95 % intervals of 2,000 simulated comparisons of 50 items hold the true difference in 94 % or more."""
    gain, loss = rates
    draws = np.random.default_rng(0).multinomial(50, [gain, loss, 1 - gain - loss], size=2000)
    distinct, times = np.unique(draws[:, :2], axis=0, return_counts=True)
    held = [low <= gain - loss <= high for low, high in (paired_difference(int(g), int(b), 50) for g, b in distinct)]
    assert np.average(held, weights=times) >= 0.94


@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_mean_interval_is_students(values):
    low, high = mean_interval(values)
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = stats.t.ppf(0.975, len(values) - 1) * error
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=1e-9)


def test_one_value_is_its_own_interval():
    assert mean_interval([0.25]) == (0.25, 0.25)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson(1, 0),
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: clopper_pearson(3, 2),
        lambda: clopper_pearson(1, 2, tests=0),
        lambda: paired_difference(2, 1, 2),
        lambda: mean_interval([]),
    ],
)
def test_impossible_counts_are_refused(call):
    with pytest.raises(ValueError, match=r"not|no values"):
        call()


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_difference_of_separate_shares_is_newcombes(first, second, low, high):
    """The table of Newcombe 1998, method 10, as far as four digits."""
    assert independent_difference(first, second) == pytest.approx((low, high), abs=5e-5)
    assert independent_difference(second, first) == pytest.approx((-high, -low), abs=5e-5)


@given(first=proportions, second=proportions)
def test_the_difference_of_separate_shares_holds_the_difference(first, second):
    low, high = independent_difference(first, second)
    assert -1 <= low <= first[0] / first[1] - second[0] / second[1] <= high <= 1


def test_the_difference_from_a_share_that_is_all_but_known_is_wilsons():
    low, high = independent_difference((7, 20), (0, 10**9))
    assert (low, high) == pytest.approx(wilson(7, 20), abs=1e-8)
