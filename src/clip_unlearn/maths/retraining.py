"""How far edited models are from retrained ones. Dimensions: m models of each sort, n images."""

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from clip_unlearn.maths.intervals import CONFIDENCE
from clip_unlearn.maths.ranking import Ranking, rank_groups

LEAST_SPREAD: Final = 1e-3
"""Standard deviation of a score over models under which it counts as this much: few models may agree by chance."""


def log_odds(cosines: Tensor, place: int, scale: float) -> Tensor:
    """Return how far the score of one class is above that of all others together: [n, k] -> [n], in float64.

    s cos_f - log sum_{c != f} exp(s cos_c), the logarithm of the odds of the class at logit scale s.
    """
    scores = scale * cosines.double()
    others = torch.cat([scores[:, :place], scores[:, place + 1 :]], dim=1)
    return scores[:, place] - others.logsumexp(dim=1)


def kolmogorov_smirnov(
    first: Sequence[float], second: Sequence[float], *, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Return the largest distance of two distribution functions, with its interval; all in [0, 1].

    D = sup_x |F(x) - G(x)|. The interval holds for any distributions: by Dvoretzky, Kiefer, Wolfowitz and Massart each
    empirical function is within sqrt(ln(2 / a) / (2 n)) of its own with probability 1 - a; a is half of what may fail.

    Raises:
        ValueError: if a sample is empty.
    """
    if not len(first) or not len(second):
        raise ValueError(f"{len(first)} and {len(second)} values have no distance")
    one, two = (torch.tensor(values, dtype=torch.float64).sort().values for values in (first, second))
    every = torch.cat([one, two])
    below = [torch.searchsorted(side, every, right=True).double() / len(side) for side in (one, two)]
    distance = float((below[0] - below[1]).abs().max())
    band = sum(math.sqrt(math.log(4 / (1 - confidence)) / (2 * len(side))) for side in (one, two))
    return distance, max(0.0, distance - band), min(1.0, distance + band)


def tug_of_war(edited: Sequence[float], retrained: Sequence[float]) -> float:
    """Return the product of 1 - |a(edited) - a(retrained)| over accuracies on several sets: 1 where all agree.

    Source: ToW of Zhao et al. 2024, arXiv 2406.01257.
    """
    return math.prod(1 - abs(one - other) for one, other in zip(edited, retrained, strict=True))


def membership_accuracy(members: Sequence[float], others: Sequence[float], *, folds: int = 5) -> float:
    """Return how often an attacker tells what a model was taught on from what it was not, by one score: 0.5 by chance.

    The mean of the shares of members and of others that are told right, by a threshold that is best on four folds and
    used on the fifth; the members may be above it or below.

    Raises:
        ValueError: if a side has fewer values than folds.
    """
    if min(len(members), len(others)) < folds:
        raise ValueError(f"{len(members)} and {len(others)} values do not make {folds} folds")
    sides = [torch.tensor(values, dtype=torch.float64) for values in (members, others)]
    right = [0.0, 0.0]
    for fold in range(folds):
        held = [torch.arange(len(side)) % folds == fold for side in sides]
        cut, sign = _threshold(*(side[~out] for side, out in zip(sides, held, strict=True)))
        above = [sign * side[out] >= cut for side, out in zip(sides, held, strict=True)]
        right[0] += int(above[0].sum())
        right[1] += int((~above[1]).sum())
    return (right[0] / len(members) + right[1] / len(others)) / 2


def unlearning_score(utility: float, membership: float) -> float:
    """Return NoMUS, from 0 to 1, 1 is best: half the accuracy on what is retained, half what membership hides.

    (u + 1 - 2 |1/2 - a|) / 2 with a the accuracy of a membership attack.

    Source: NoMUS, Choi and Na 2023, arXiv 2311.02240.
    """
    return (utility + 1 - 2 * abs(0.5 - membership)) / 2


def likelihood_ratio(groups: Sequence[tuple[Tensor, Tensor]]) -> Ranking:
    """Return how well an attacker tells edited models from retrained ones by their scores on the same images.

    Every image has two normal distributions of its score, over the edited models and over the retrained ones, with the
    one that is judged left out. A model's value is the mean over images of log N(edited) - log N(retrained), and the
    ranking is that of the edited against the retrained models: 0.5 where nothing tells them apart. Models of different
    classes, which have different images, form groups of scores ([m, n], [m, n]); all values are ranked together.

    Raises:
        ValueError: if there are fewer than three models of a sort in a group.
    Source: U-LiRA, Hayes et al. 2024, arXiv 2403.01218, over models instead of examples.
    """
    if min(len(side) for group in groups for side in group) < 3:
        raise ValueError("fewer than three models of a sort have no spread once one is left out")
    edited = torch.cat([_values(one, other) for one, other in groups])
    return rank_groups(edited, -torch.cat([_values(other, one) for one, other in groups]))


def _values(judged: Tensor, others: Tensor) -> Tensor:
    """Return, for each judged model, how much more its scores look like its own sort's than like the other's: [m]."""
    own, every = judged.double(), others.double()
    far = _log_density(own, every.mean(0), every.std(0))
    near = []
    for place in range(len(own)):
        rest = torch.cat([own[:place], own[place + 1 :]])
        near.append(_log_density(own[place], rest.mean(0), rest.std(0)))
    return (torch.stack(near) - far).mean(1)


def _threshold(members: Tensor, others: Tensor) -> tuple[float, float]:
    """Return the threshold and the sign of the score with the most right on both sides: [n], [m]."""
    best = (-math.inf, 0.0, 1.0)
    for sign in (1.0, -1.0):
        inner, outer = (sign * members).sort().values, (sign * others).sort().values
        cuts = torch.cat([inner, outer]).sort().values
        above = 1 - torch.searchsorted(inner, cuts).double() / len(inner)
        below = torch.searchsorted(outer, cuts).double() / len(outer)
        place = int((above + below).argmax())
        best = max(best, (float((above + below)[place]), float(cuts[place]), sign))
    return best[1], best[2]


def _log_density(values: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    spread = spread.clamp_min(LEAST_SPREAD)
    return -((values - mean) ** 2) / (2 * spread**2) - spread.log()
