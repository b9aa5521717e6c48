"""The area under the ROC curve and its intervals against slow formulas, a library and simulation."""

import math

import hypothesis
import pytest
import torch
from hypothesis import strategies
from scipy import special, stats

from clip_unlearn.maths.ranking import Ranking, change_interval, rank_groups

Scores = strategies.lists(strategies.integers(-3, 3).map(float), min_size=1, max_size=12)
Z = float(special.ndtri(0.975))


def slow_auc(first: list[float], second: list[float]) -> float:
    """Return the area by looking at every pair."""
    won = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a in first for b in second)
    return won / (len(first) * len(second))


def ranked(first: list[float], second: list[float]) -> Ranking:
    return rank_groups(torch.tensor(first), torch.tensor(second))


@hypothesis.given(Scores, Scores)
def test_area_is_the_share_of_pairs_ties_one_half(first: list[float], second: list[float]) -> None:
    area = ranked(first, second).auc
    assert area == pytest.approx(slow_auc(first, second), abs=1e-12)
    statistic = stats.mannwhitneyu(first, second).statistic
    assert area == pytest.approx(statistic / (len(first) * len(second)), abs=1e-12)


@hypothesis.given(Scores, Scores)
def test_both_groups_see_the_same_area(first: list[float], second: list[float]) -> None:
    ranking = ranked(first, second)
    assert float(ranking.below.mean()) == pytest.approx(ranking.auc, abs=1e-12)
    assert ranked(second, first).auc == pytest.approx(1 - ranking.auc, abs=1e-12)


@hypothesis.given(Scores, Scores)
def test_interval_holds_the_area_and_turns_round_with_it(first: list[float], second: list[float]) -> None:
    ranking = ranked(first, second)
    low, high = ranking.interval()
    assert 0 <= low <= ranking.auc <= high <= 1
    assert high - low > 0.01
    assert ranked(second, first).interval() == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_the_ends_are_where_the_variance_of_hanley_and_mcneil_puts_them() -> None:
    generator = torch.Generator().manual_seed(0)
    ranking = rank_groups(torch.randn(30, generator=generator) + 1, torch.randn(50, generator=generator))
    for end in ranking.interval():
        first, second = end / (2 - end) - end**2, 2 * end**2 / (1 + end) - end**2
        variance = (end * (1 - end) + 39 * (first + second)) / (30 * 50)
        assert abs(ranking.auc - end) == pytest.approx(Z * math.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_interval_covers_the_true_area(shift: float) -> None:
    truth, covered, generator = float(special.ndtr(shift / math.sqrt(2))), 0, torch.Generator().manual_seed(1)
    for _ in range(400):
        ranking = rank_groups(torch.randn(20, generator=generator) + shift, torch.randn(60, generator=generator))
        low, high = ranking.interval()
        covered += low <= truth <= high
    assert 0.92 <= covered / 400 <= 0.99


def test_a_perfect_area_has_an_interval_too() -> None:
    low, high = ranked([2.0, 3.0, 4.0], [0.0, 1.0]).interval()
    assert high == 1
    assert 0.3 < low < 0.9


def test_correlation_by_delong() -> None:
    """Compare with the placements counted one by one and the covariances of numpy's kind."""
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(15, generator=generator) + 1, torch.randn(25, generator=generator)
    noisy = [part + 0.5 * torch.randn(len(part), generator=generator) for part in (first, second)]
    before, after = rank_groups(first, second), rank_groups(*noisy)
    tens = torch.tensor([[slow_auc([float(a)], b.tolist()) for a in x] for x, b in ((first, second), noisy)])
    ones = torch.tensor([[slow_auc(x.tolist(), [float(b)]) for b in y] for x, y in ((first, second), noisy)])
    covariance = torch.cov(tens) / 15 + torch.cov(ones) / 25
    together = float(covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt())
    assert 0.3 < together < 1
    (was_low, was_high), (now_low, now_high) = before.interval(), after.interval()
    down, other = after.auc - now_low, was_high - before.auc
    expected = after.auc - before.auc - math.sqrt(down**2 + other**2 - 2 * together * down * other)
    low, high = change_interval(before, after)
    assert low == pytest.approx(expected, abs=1e-6)
    assert low < after.auc - before.auc < high
    assert high - low < (now_high - now_low) + (was_high - was_low)


def test_change_interval_covers_the_true_change() -> None:
    truth = float(special.ndtr(0.5 / math.sqrt(2)) - special.ndtr(1.5 / math.sqrt(2)))
    covered, generator = 0, torch.Generator().manual_seed(3)
    for _ in range(300):
        shared = [torch.randn(count, generator=generator) for count in (25, 60)]
        own = [[torch.randn(count, generator=generator) for count in (25, 60)] for _ in range(2)]
        mixed = [[0.8 * a + 0.6 * b for a, b in zip(shared, one, strict=True)] for one in own]
        low, high = change_interval(
            rank_groups(mixed[0][0] + 1.5, mixed[0][1]), rank_groups(mixed[1][0] + 0.5, mixed[1][1])
        )
        covered += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.99


def test_no_change_is_inside() -> None:
    ranking = ranked([2.0, 3.0, 0.5], [0.0, 1.0])
    low, high = change_interval(ranking, ranking)
    start, end = ranking.interval()
    assert high == -low == pytest.approx(abs((end - ranking.auc) - (ranking.auc - start)))


def test_from_perfect_to_opposite() -> None:
    low, high = change_interval(ranked([2.0, 3.0], [0.0, 1.0]), ranked([0.0, 1.0], [2.0, 3.0]))
    assert (low, high) == (-1.0, pytest.approx(high))
    assert -1 < high < 0


def test_groups_of_one() -> None:
    ranking = ranked([1.0], [0.0])
    assert ranking.auc == 1
    assert change_interval(ranking, ranked([0.0], [1.0]))[0] == -1


def test_a_broken_score_is_no_area() -> None:
    ranking = ranked([1.0, math.nan], [0.0])
    assert math.isnan(ranking.auc)
    assert all(math.isnan(end) for end in (*ranking.interval(), *change_interval(ranking, ranked([1.0, 2.0], [0.0]))))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="0 and 1 scores"):
        ranked([], [1.0])
    with pytest.raises(ValueError, match="different sizes"):
        change_interval(ranked([1.0], [1.0]), ranked([1.0, 2.0], [1.0]))
