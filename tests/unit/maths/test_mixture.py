"""Two normal components, log odds and rankings, against formulas written out."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor

from clip_unlearn.maths.mixture import (
    LEAST_VARIANCE,
    Component,
    Mixture,
    average_precision,
    fit_mixture,
    log_odds,
    most_with_mean,
)

LOWER, UPPER = Component(mean=-8.0, variance=4.0), Component(mean=0.5, variance=1.5)


def drawn(share: float, count: int = 400, *, upper: Component = UPPER, seed: int = 0) -> Tensor:
    """Return scores of both kinds, in no order."""
    random = np.random.default_rng(seed)
    kinds = random.random(count) < share
    means, deviations = ([getattr(one, field) for one in (LOWER, upper)] for field in ("mean", "variance"))
    return torch.tensor(
        [random.normal(means[kind], math.sqrt(deviations[kind])) for kind in kinds.astype(int)], dtype=torch.float64
    )


def literal(scores: list[float], lower: Component, upper: Component, weight: float, rounds: int) -> list[float]:
    """Return share, means and variances after so many rounds: densities of scipy, sums of lists."""
    share, found = 0.05, {"upper": (upper.mean, upper.variance), "lower": (lower.mean, lower.variance)}
    for _ in range(rounds):
        own = []
        for score in scores:
            up = share * norm.pdf(score, found["upper"][0], math.sqrt(found["upper"][1]))
            down = (1 - share) * norm.pdf(score, found["lower"][0], math.sqrt(found["lower"][1]))
            own.append(up / (up + down))
        for name, expected, parts in (("upper", upper, own), ("lower", lower, [1 - one for one in own])):
            total = sum(parts) + weight
            mean = (sum(r * s for r, s in zip(parts, scores, strict=True)) + weight * expected.mean) / total
            spread = sum(r * (s - mean) ** 2 for r, s in zip(parts, scores, strict=True))
            prior = weight * ((mean - expected.mean) ** 2 + expected.variance)
            found[name] = (mean, (spread + prior) / total)
        share = (sum(own) + 0.5) / (len(scores) + 1)
    return [share, *found["upper"], *found["lower"]]


def numbers(mixture: Mixture) -> list[float]:
    """Return share, means and variances."""
    return [
        mixture.share,
        *(mixture.upper.mean, mixture.upper.variance),
        *(mixture.lower.mean, mixture.lower.variance),
    ]


@pytest.mark.parametrize("weight", [0.0, 7.0, 50.0])
def test_the_fit_is_that_of_the_rounds_written_out(weight):
    scores = drawn(0.2, 60)
    expected = (Component(mean=-6.0, variance=3.0), Component(mean=-1.0, variance=2.0))
    found = fit_mixture(scores, lower=expected[0], upper=expected[1], weight=weight)
    assert 2 <= found.rounds < 400
    assert numbers(found) == pytest.approx(literal(scores.tolist(), *expected, weight, found.rounds), rel=1e-9)


def test_the_fit_is_the_most_probable_one():
    """The posterior, as it follows from the priors: each as k scores with the expected mean and variance."""
    scores, weight = drawn(0.3, 200), 20.0
    expected = (Component(mean=-7.0, variance=3.0), Component(mean=0.0, variance=2.0))
    found = fit_mixture(scores, lower=expected[0], upper=expected[1], weight=weight)
    at = torch.tensor(numbers(found), dtype=torch.float64, requires_grad=True)

    def log_normal(mean: Tensor, variance: Tensor) -> Tensor:
        return -((scores - mean) ** 2) / (2 * variance) - variance.log() / 2

    share, high, high_variance, low, low_variance = at
    likelihood = torch.logaddexp(
        share.log() + log_normal(high, high_variance), (1 - share).log() + log_normal(low, low_variance)
    ).sum()
    prior = (share.log() + (1 - share).log()) / 2
    for mean, variance, one in ((high, high_variance, expected[1]), (low, low_variance, expected[0])):
        prior = prior - weight * (((mean - one.mean) ** 2 + one.variance) / (2 * variance) + variance.log() / 2)
    slopes = torch.autograd.grad(likelihood + prior, at)[0]
    assert slopes.abs().max() < 1e-4


@pytest.mark.parametrize("share", [0.02, 0.1, 0.6])
def test_known_mixtures_are_found_again(share):
    scores = drawn(share, 6000, seed=1)
    found = fit_mixture(
        scores, lower=Component(mean=-6.0, variance=6.0), upper=Component(mean=1.5, variance=1.0), weight=5.0
    )
    assert found.share == pytest.approx(share, abs=0.015)
    assert [found.upper.mean, found.lower.mean] == pytest.approx([0.5, -8.0], abs=0.3)
    assert found.lower.variance == pytest.approx(4.0, rel=0.1)
    assert found.upper.variance == pytest.approx(1.5, rel=0.35)


def test_a_class_that_nothing_shows_is_not_made_up():
    """Without the weight of what is expected the highest scores become one."""
    nothing = drawn(0.0, 1000)
    shown = {
        weight: fit_mixture(nothing, lower=LOWER, upper=Component(mean=-3.0, variance=4.0), weight=weight)
        for weight in (0.001, 50.0)
    }
    assert float(shown[50.0].posterior(nothing).max()) < 0.5
    assert shown[50.0].share < 0.02
    assert float(shown[0.001].posterior(nothing).max()) > 0.5


def test_components_have_a_least_width():
    flat = Component(mean=0.0, variance=0.0)
    found = fit_mixture(torch.zeros(5), lower=Component(mean=-3.0, variance=1.0), upper=flat, weight=1.0)
    assert found.upper.variance == LEAST_VARIANCE
    assert torch.isfinite(found.posterior(torch.tensor([-5.0, 0.0, 5.0]))).all()
    assert found.posterior(torch.zeros(1)) > 0.9


@pytest.mark.parametrize("scores", [[], [math.nan], [0.0, math.inf]])
def test_scores_have_to_be_numbers(scores):
    with pytest.raises(ValueError, match="numbers, at least one"):
        fit_mixture(torch.tensor(scores), lower=LOWER, upper=UPPER, weight=1.0)


@pytest.mark.parametrize("upper", [LOWER, Component(mean=-9.0, variance=1.0)])
def test_the_upper_component_is_expected_above(upper):
    with pytest.raises(ValueError, match="expected above"):
        fit_mixture(torch.zeros(3), lower=LOWER, upper=upper, weight=1.0)


def test_an_upper_component_that_ends_below_is_refused():
    scores = torch.tensor([0.0] * 20 + [-50.0] * 5)
    wide = Component(mean=0.01, variance=400.0)
    with pytest.raises(ValueError, match="do not tell"):
        fit_mixture(scores, lower=Component(mean=0.0, variance=1.0), upper=wide, weight=0.01)


def components() -> st.SearchStrategy[Mixture]:
    """Return mixtures whose upper component is above the lower."""
    variance = st.floats(0.01, 30.0)
    return st.builds(
        lambda share, low, step, high_variance, low_variance: Mixture(
            share=share,
            upper=Component(mean=low + step, variance=high_variance),
            lower=Component(mean=low, variance=low_variance),
            rounds=1,
        ),
        *(st.floats(0.001, 0.999), st.floats(-20, 5), st.floats(0.1, 20), variance, variance),
    )


def bayes(score: float, mixture: Mixture) -> float:
    """Return the log odds of the upper component by Bayes, whatever the side of the vertex."""
    above, below = (
        -((score - one.mean) ** 2) / (2 * one.variance) - math.log(math.sqrt(2 * math.pi * one.variance))
        for one in (mixture.upper, mixture.lower)
    )
    return above - below + math.log(mixture.share / (1 - mixture.share))


@given(components())
def test_the_posterior_never_falls(mixture):
    scores = torch.linspace(-200, 200, 801, dtype=torch.float64)
    found = mixture.posterior(scores)
    assert bool((found.diff() >= -1e-12).all())
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


@given(components())
def test_between_the_means_the_posterior_is_that_of_bayes(mixture):
    for part in (0.0, 0.3, 1.0):
        score = mixture.lower.mean + part * (mixture.upper.mean - mixture.lower.mean)
        found = float(mixture.posterior(torch.tensor([score], dtype=torch.float64)))
        assert found == pytest.approx(float(expit(bayes(score, mixture))), abs=1e-9)


@pytest.mark.parametrize(("high", "low"), [(0.5, 2.0), (2.0, 0.5)])
def test_beyond_the_vertex_it_keeps_the_value_of_the_vertex(high, low):
    """(s - 1)^2 / (2 high) - (s + 1)^2 / (2 low) is level at s = (low + high) / (low - high)."""
    mixture = Mixture(
        share=0.4, upper=Component(mean=1.0, variance=high), lower=Component(mean=-1.0, variance=low), rounds=1
    )
    vertex = (low + high) / (low - high)
    steps = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64)
    found = mixture.posterior(vertex + steps)
    kept = steps >= 0 if high < low else steps <= 0
    expected = [float(expit(bayes(vertex + float(step), mixture))) for step in steps]
    assert torch.equal(found[kept], found[2].expand(3))
    assert found[~kept].tolist() == pytest.approx([one for one, k in zip(expected, kept, strict=True) if not k])
    assert float(found[2]) == pytest.approx(expected[2])
    assert abs(expected[-1 if high < low else 0] - expected[2]) > 0.01, "the parabola turns back there"


def test_equal_variances_have_no_vertex():
    same = Mixture(
        share=0.5, upper=Component(mean=1.0, variance=1.0), lower=Component(mean=-1.0, variance=1.0), rounds=1
    )
    scores = torch.tensor([-30.0, -1.0, 0.0, 1.0, 30.0])
    assert same.posterior(scores).tolist() == pytest.approx((2 * scores.double()).sigmoid().tolist(), abs=1e-12)


def test_log_odds_are_those_of_the_softmax():
    logits = torch.randn(40, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    p = logits.softmax(1)
    assert torch.allclose(log_odds(logits), p.log() - (1 - p).log(), rtol=0, atol=1e-9)
    assert torch.allclose(log_odds(logits + 1000), log_odds(logits), rtol=0, atol=1e-9)


@pytest.mark.parametrize("top", [20.0, 60.0, 900.0])
def test_log_odds_where_the_probability_rounds_to_one(top):
    logits = torch.tensor([[0.0, 1.0, top, -2.0]], dtype=torch.float64)
    rest = math.log(math.exp(0) + math.exp(1) + math.exp(-2))
    assert float(log_odds(logits)[0, 2]) == pytest.approx(top - rest, rel=1e-14)
    assert log_odds(logits)[0, :2].tolist() == pytest.approx([-top, 1 - top], abs=1e-7)


def test_log_odds_of_two_classes_and_of_a_draw():
    assert log_odds(torch.tensor([[3.0, -1.5]], dtype=torch.float64)).tolist() == [[4.5, -4.5]]
    even = log_odds(torch.tensor([[2.0, 2.0, 2.0]], dtype=torch.float64))
    assert even[0].tolist() == pytest.approx([-math.log(2)] * 3)


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.75, 0.9, 1.0]), max_size=12), st.sampled_from([0.5, 0.75, 0.9]))
def test_the_largest_set_with_such_a_mean(values, least):
    found = most_with_mean(torch.tensor(values, dtype=torch.float64), least).tolist()
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    sizes = [
        size for size in range(1, len(values) + 1) if math.fsum(values[place] for place in order[:size]) / size >= least
    ]
    # A mean that is the least one to the last bit may fall on either side.
    if not any(abs(math.fsum(values[p] for p in order[:s]) / s - least) < 1e-12 for s in range(1, len(values) + 1)):
        assert found == order[: max(sizes, default=0)]
    assert found == order[: len(found)]


def test_ties_are_taken_in_their_order_and_an_exact_mean_counts():
    assert most_with_mean(torch.tensor([0.5, 1.0, 0.5, 0.5, 0.0]), 0.75).tolist() == [1, 0]
    assert most_with_mean(torch.tensor([0.25, 0.5, 0.5]), 0.5).tolist() == [1, 2]
    assert most_with_mean(torch.tensor([0.2, 0.4]), 0.5).tolist() == []
    assert most_with_mean(torch.empty(0), 0.5).tolist() == []


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=15))
def test_average_precision_is_the_mean_over_true_items(items):
    scores, truth = torch.tensor([one for one, _ in items]), torch.tensor([one for _, one in items])
    if not truth.any():
        with pytest.raises(ValueError, match="no item"):
            average_precision(scores, truth)
        return
    precisions = []
    for score, true in items:
        if true:
            ahead = [right for other, right in items if other >= score]
            precisions.append(sum(ahead) / len(ahead))
    assert average_precision(scores, truth) == pytest.approx(sum(precisions) / len(precisions), abs=1e-12)


def test_average_precision_of_a_perfect_and_of_a_flat_ranking():
    truth = torch.tensor([False, True, True, False])
    assert average_precision(torch.tensor([0.1, 0.8, 0.9, 0.2]), truth) == 1
    assert average_precision(torch.full((4,), 0.3), truth) == 0.5
