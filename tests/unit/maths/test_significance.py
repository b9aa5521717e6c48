"""Tests of differences: by hand, against scipy, and intervals by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from clip_unlearn.maths.tests import cluster_interval, fisher, holm, signed_rank


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


def test_holm_against_its_definition() -> None:
    """The smallest level at which the step-down procedure rejects."""
    values = np.random.default_rng(0).uniform(size=7).tolist()
    for place, adjusted in enumerate(holm(values)):
        for level in (adjusted - 1e-9, adjusted + 1e-9):
            order = sorted(range(7), key=lambda one: values[one])
            rejected = []
            for rank, one in enumerate(order):
                if values[one] > level / (7 - rank):
                    break
                rejected.append(one)
            assert (place in rejected) == (level > adjusted) or adjusted == 1.0


def test_what_was_not_tested_counts_as_no_test() -> None:
    first, missing, second = holm([0.02, math.nan, 0.5])
    assert (first, second) == pytest.approx((0.04, 0.5))
    assert math.isnan(missing)


def test_signed_ranks() -> None:
    assert signed_rank([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 2**6)
    assert signed_rank([0, 0.0]) == 1.0
    assert signed_rank([0.0, 1, 2, 3, 4, 5, 6]) == signed_rank([1, 2, 3, 4, 5, 6])
    values = np.random.default_rng(1).normal(0.3, 1, size=30).tolist()
    assert signed_rank(values) == pytest.approx(stats.wilcoxon(values).pvalue)


def test_two_proportions() -> None:
    assert fisher((3, 3), (0, 3)) == pytest.approx(0.1)
    assert fisher((5, 10), (5, 10)) == 1.0


def test_groups_widen_the_interval() -> None:
    alike = [[1.0] * 10, [0.0] * 10] * 5
    mixed = [[1.0, 0.0] * 5] * 10
    low, high = cluster_interval(alike)
    assert low < 0.3 < 0.7 < high
    assert cluster_interval(mixed) == (0.5, 0.5)
    assert cluster_interval(alike) == cluster_interval(alike)
    with pytest.raises(ValueError, match="empty"):
        cluster_interval([[1.0], []])


def test_coverage_by_simulation() -> None:
    """Twenty classes of ten images each; classes differ. The true mean lies inside about as often as promised."""
    generator, inside = np.random.default_rng(2), 0
    for _ in range(300):
        shares = generator.beta(4, 2, size=20)
        groups = [generator.binomial(1, share, size=10).tolist() for share in shares]
        low, high = cluster_interval(groups, draws=500)
        inside += low <= 4 / 6 <= high
    assert 0.88 < inside / 300 <= 1
