"""Distances from retrained models: against the library's, by hand, and on scores whose truth is known."""

import math

import pytest
import torch
from scipy import stats

from clip_unlearn.maths.retraining import (
    kolmogorov_smirnov,
    likelihood_ratio,
    log_odds,
    membership_accuracy,
    tug_of_war,
    unlearning_score,
)


def normal(*shape: int, seed: int, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_log_odds_by_hand() -> None:
    found = log_odds(torch.tensor([[0.1, 0.3, 0.2]]), 1, 10.0)
    assert float(found) == pytest.approx(3 - math.log(math.exp(1) + math.exp(2)))
    probability = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64).softmax(0)[1]
    assert float(found) == pytest.approx(float(torch.logit(probability)))


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_the_distance_is_the_librarys(shift: float) -> None:
    one, two = normal(80, seed=1).tolist(), normal(120, seed=2, mean=shift).tolist()
    distance, low, high = kolmogorov_smirnov(one, two)
    assert distance == pytest.approx(stats.ks_2samp(one, two).statistic)
    assert 0 <= low <= distance <= high <= 1


def test_ties_and_separate_samples() -> None:
    assert kolmogorov_smirnov([1, 1, 2], [1, 2, 2])[0] == pytest.approx(1 / 3)
    assert kolmogorov_smirnov([1, 2], [3, 4])[0] == 1
    with pytest.raises(ValueError, match="no distance"):
        kolmogorov_smirnov([], [1])


def test_the_interval_holds_the_true_distance() -> None:
    """Two normal distributions one apart: the largest distance is in the middle, 2 Phi(1/2) - 1."""
    truth, held = 2 * stats.norm.cdf(0.5) - 1, 0
    for seed in range(100):
        _, low, high = kolmogorov_smirnov(
            normal(60, seed=seed).tolist(), normal(60, seed=1000 + seed, mean=1.0).tolist()
        )
        held += low <= truth <= high
    assert held >= 95


def test_a_tug_of_war_by_hand() -> None:
    assert tug_of_war([0.1, 0.9, 0.8], [0.0, 1.0, 0.8]) == pytest.approx(0.9 * 0.9)
    assert tug_of_war([0.3, 0.7], [0.3, 0.7]) == 1


def test_models_that_differ_in_every_image_are_told_apart() -> None:
    found = likelihood_ratio([(normal(16, 50, seed=1, mean=1.0), normal(16, 50, seed=2))])
    assert found.auc > 0.99


def test_models_that_do_not_differ_are_not() -> None:
    """Over many populations the mean area is one half; of each the interval holds it most of the time."""
    areas, held = [], 0
    for seed in range(40):
        ranking = likelihood_ratio([(normal(12, 20, seed=seed), normal(12, 20, seed=5000 + seed))])
        areas.append(ranking.auc)
        held += ranking.interval()[0] <= 0.5 <= ranking.interval()[1]
    assert abs(sum(areas) / len(areas) - 0.5) < 0.1
    assert held >= 32


def test_classes_of_other_images_are_ranked_together() -> None:
    groups = [(normal(6, 30 + place, seed=place, mean=1.0), normal(6, 30 + place, seed=50 + place)) for place in (0, 1)]
    found = likelihood_ratio(groups)
    assert (len(found.above), len(found.below)) == (12, 12)
    assert found.auc > 0.95


def test_a_difference_of_spread_alone_is_found() -> None:
    assert likelihood_ratio([(3 * normal(16, 60, seed=1), normal(16, 60, seed=2))]).auc > 0.99


def test_too_few_models() -> None:
    with pytest.raises(ValueError, match="no spread"):
        likelihood_ratio([(normal(2, 5, seed=1), normal(9, 5, seed=2))])


def test_members_are_told_by_a_threshold_that_was_learned_elsewhere() -> None:
    """Ten of each side, far apart but for one member among the others; either direction is found."""
    members, others = [10.0 + place for place in range(9)] + [0.5], [float(place) for place in range(10)]
    assert membership_accuracy(members, others) == pytest.approx((0.9 + 1.0) / 2, abs=0.05)
    negative = [[-value for value in side] for side in (members, others)]
    assert membership_accuracy(*negative) == pytest.approx(membership_accuracy(members, others), abs=0.05)


def test_members_that_are_like_the_others_are_told_by_chance() -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(4000, generator=random).tolist()
    assert membership_accuracy(values[:3000], values[3000:]) == pytest.approx(0.5, abs=0.03)
    with pytest.raises(ValueError, match="do not make 5 folds"):
        membership_accuracy([1.0] * 4, [0.0] * 9)


@pytest.mark.parametrize(("membership", "score"), [(0.5, 0.95), (1.0, 0.45), (0.0, 0.45), (0.75, 0.7)])
def test_the_unlearning_score_by_hand(membership: float, score: float) -> None:
    assert unlearning_score(0.9, membership) == pytest.approx(score)
