"""Which scores belong to a class that nobody labelled: two normal components. n scores, k classes."""

import math
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

ROUNDS: Final = 2000
"""Most rounds of expectation and maximisation."""

SETTLED: Final = 1e-10
"""Change of the share in a round under which the fit has settled."""

LEAST_VARIANCE: Final = 1e-6
"""Variance under which a component counts as this wide: equal scores would make it infinitely sure."""

START: Final = 0.05
"""Share of the upper component before the first round."""


@final
@dataclass(frozen=True, kw_only=True)
class Component:
    """A normal distribution of scores."""

    mean: float
    variance: float


@final
@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Scores of two kinds: the `share` of them is of the upper kind, the others of the lower."""

    share: float
    """Share of the upper component, in (0, 1)."""

    upper: Component
    lower: Component
    rounds: int
    """Rounds until the fit settled."""

    def posterior(self, scores: Tensor) -> Tensor:
        """Return the probability that each score is of the upper component, never falling as the score rises: [n].

        P = 1 / (1 + exp(-l)), l = log(share N(s; upper) / ((1 - share) N(s; lower))). With unequal variances l is a
        parabola in s. On the far side of its vertex, where it would turn back, it keeps the vertex's value: a higher
        score is no evidence for the lower component.

        Source of the mixture: Dempster, Laird and Rubin 1977; the rule at the vertex is ours.
        """
        values = scores.double()
        curve = (1 / self.lower.variance - 1 / self.upper.variance) / 2
        slope = self.upper.mean / self.upper.variance - self.lower.mean / self.lower.variance
        if curve:
            vertex = -slope / (2 * curve)
            values = values.clamp(max=vertex) if curve < 0 else values.clamp(min=vertex)
        return _log_odds(values, self).sigmoid()


def fit_mixture(scores: Tensor, *, lower: Component, upper: Component, weight: float) -> Mixture:
    """Return the mixture that fits the scores, held near what is expected of both components.

    Maximum a posteriori by expectation and maximisation, every round in closed form in float64: with r the
    probabilities of the upper component, m0 and v0 what is expected of it, and `weight` = k,
    mean = (sum r s + k m0) / (sum r + k), variance = (sum r (s - mean)^2 + k (mean - m0)^2 + k v0) / (sum r + k),
    and in the same way with 1 - r for the lower one; share = (sum r + 1/2) / (n + 1). What is expected counts as much
    as k scores, so a class that no image shows is not made up of the highest scores of others.

    Shapes: [n], n at least 1.

    Raises:
        ValueError: if there are no scores, one is not finite, the upper component is not expected above the lower, or
            the fit does not leave it there: then the scores do not tell the two apart.
    Source: Dempster, Laird and Rubin 1977; Fraley and Raftery 2007 for the priors.
    """
    values = scores.double()
    if not len(values) or not bool(values.isfinite().all()):
        raise ValueError("scores have to be numbers, at least one")
    if upper.mean <= lower.mean:
        raise ValueError("the upper component has to be expected above the lower")
    found = Mixture(share=START, upper=_wide(upper), lower=_wide(lower), rounds=0)
    for number in range(1, ROUNDS + 1):
        own = _log_odds(values, found).sigmoid()
        share = (float(own.sum()) + 0.5) / (len(values) + 1)
        moved = abs(share - found.share)
        found = Mixture(
            share=share,
            upper=_component(values, own, upper, weight),
            lower=_component(values, 1 - own, lower, weight),
            rounds=number,
        )
        if moved < SETTLED:
            break
    if found.upper.mean <= found.lower.mean:
        raise ValueError("the scores do not tell two components apart")
    return found


def log_odds(logits: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of every class, p the softmax of the logits: z_j - log(sum over others of exp z).

    Exact where p is nearly 1, where 1 - p would be rounding. Shapes: [n, k] -> [n, k], k at least 2.
    """
    total = logits.logsumexp(dim=1, keepdim=True)
    near = logits.argmax(dim=1, keepdim=True)
    rest = logits.scatter(1, near, -torch.inf).logsumexp(dim=1, keepdim=True)
    share = logits - total
    odds = share - torch.log1p(-share.exp().clamp(max=0.75))
    # Only the largest can have more than three quarters.
    return odds.scatter(1, near, logits.gather(1, near) - rest)


def most_with_mean(probabilities: Tensor, least: float) -> Tensor:
    """Return the largest set of the highest probabilities whose mean is at least `least`, highest first: [m].

    Of equal ones the earlier comes first. m = 0 where not even the highest reaches it. Shapes: [n] -> indices [m].
    """
    order = probabilities.argsort(descending=True, stable=True)
    means = probabilities[order].double().cumsum(0) / torch.arange(1, len(order) + 1, device=order.device)
    reached = (means >= least).nonzero().flatten()
    return order[: int(reached[-1]) + 1] if len(reached) else order[:0]


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Return the mean, over true items, of the precision among all that score at least as much; in [0, 1].

    Ties count against: an item is ranked behind all that score the same. Shapes: [n], [n].

    Raises:
        ValueError: if nothing is true.
    """
    if not bool(truth.any()):
        raise ValueError("no item is true")
    own = scores[truth].sort(descending=True).values.contiguous()
    taken = len(scores) - torch.searchsorted(scores.sort().values.contiguous(), own)
    hits = len(own) - torch.searchsorted(own.flip(0).contiguous(), own)
    return float((hits.double() / taken.double()).mean())


def _log_odds(values: Tensor, mixture: Mixture) -> Tensor:
    upper, lower = (_log_density(values, one) for one in (mixture.upper, mixture.lower))
    return upper - lower + math.log(mixture.share / (1 - mixture.share))


def _log_density(values: Tensor, component: Component) -> Tensor:
    """Return log N(s; mean, variance), without the constant that all share."""
    return -((values - component.mean) ** 2) / (2 * component.variance) - math.log(component.variance) / 2


def _component(values: Tensor, own: Tensor, expected: Component, weight: float) -> Component:
    total = float(own.sum()) + weight
    mean = (float((own * values).sum()) + weight * expected.mean) / total
    spread = float((own * (values - mean) ** 2).sum()) + weight * (mean - expected.mean) ** 2
    return _wide(Component(mean=mean, variance=(spread + weight * expected.variance) / total))


def _wide(component: Component) -> Component:
    return Component(mean=component.mean, variance=max(component.variance, LEAST_VARIANCE))
