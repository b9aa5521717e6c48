"""How probably each image shows the concept that is looked for. Dimensions: n images, k other names, d width."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.mixture import Component, Mixture, fit_mixture, log_odds
from clip_unlearn.maths.vectors import unit
from clip_unlearn.runs.find_names import Names

WEIGHT: Final = 50.0
"""How many images count as much as what other names say about the scores of true and of foreign images."""

CHUNK: Final = 4096
"""Images whose scores with all names are in memory at a time."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What the images of a set say about one concept."""

    margins: Tensor
    """log(p / (1 - p)), p the softmax probability of the concept among all names: [n]."""

    rivals: Tensor
    """The other name that scores highest, as a place in the list of others: [n]."""

    against_rival: Tensor
    """Probability of the concept between it and that rival alone: [n]."""

    matches: Component
    """Log odds of the name that each image scores highest with, whichever it is."""

    foreign: Component
    """Log odds of all other names on each image."""

    mixture: Mixture
    probabilities: Tensor
    """Calibrated probability that the image shows the concept: [n]."""


@torch.no_grad()
def score(embeddings: Tensor, names: Names, scale: float) -> Scores:
    """Return the scores of images for a concept, without any label.

    With logits z = scale * cosine, the concept's being log(sum over its names of exp z):

    1. margin m = log(p / (1 - p)), p the softmax probability of the concept among all names.
    2. What is expected of m where an image shows the concept, and where it does not, is taken from all names on the
       same images: the log odds of the name that wins an image are those of a match, all the rest are foreign.
    3. A mixture of two normal components is fitted to m, each held near that with the weight of 50 images:
       q(m) = P(upper component).
    4. probability = q(m) * sqrt(p / (p + r)), r the probability of the strongest rival. A rival may exclude the concept
       (a wolf for "dog"), which would give p / (p + r), or not (a ball beside the dog, or a narrower word), which
       would give 1; nobody says which, and this is half way on the logarithm.

    Shapes: [n, d], n at least 1.

    Raises:
        UnsupportedError: if the scores do not tell the two apart.
    """
    parts = [_Part(logits) for logits in _logits(embeddings, names, scale)]
    margins, rivals, duels, won = (
        torch.cat([getattr(part, field) for part in parts]) for field in ("margins", "rivals", "duels", "won")
    )
    count = len(margins) * len(names.others)
    mean = sum(part.lost_sum for part in parts) / count
    # Rounding can take the spread of equal scores below zero.
    spread = max(0.0, sum(part.lost_squares for part in parts) / count - mean**2)
    matches = Component(mean=float(won.mean()), variance=float(won.var(correction=0)))
    foreign = Component(mean=mean, variance=spread)
    try:
        mixture = fit_mixture(margins, lower=foreign, upper=matches, weight=WEIGHT)
    except ValueError as error:
        raise UnsupportedError(
            f"The model's scores do not tell '{names.concept.name}' from what it is not ({error}). Give other names."
        ) from error
    return Scores(
        margins=margins,
        rivals=rivals,
        against_rival=duels,
        matches=matches,
        foreign=foreign,
        mixture=mixture,
        probabilities=mixture.posterior(margins) * duels.sqrt(),
    )


def _logits(embeddings: Tensor, names: Names, scale: float) -> Iterator[Tensor]:
    """Yield the logits of a run of images, the concept's in the first column: [m, 1 + k] in float64."""
    for some in torch.split(embeddings, CHUNK):
        pictures = unit(some.double()).to(names.own_rows.device)
        own = (scale * (pictures @ names.own_rows.T)).logsumexp(dim=1, keepdim=True)
        yield torch.cat([own, scale * (pictures @ names.other_rows.T)], dim=1).cpu()


class _Part:
    """What is kept of the logits of a run of images."""

    def __init__(self, logits: Tensor) -> None:
        odds = log_odds(logits)
        rival = logits[:, 1:].max(dim=1)
        winner = odds.max(dim=1)
        lost = odds.scatter(1, winner.indices.unsqueeze(1), 0.0)
        self.margins, self.won = odds[:, 0], winner.values
        self.rivals, self.duels = rival.indices, (logits[:, 0] - rival.values).sigmoid()
        self.lost_sum, self.lost_squares = float(lost.sum()), float(lost.square().sum())
