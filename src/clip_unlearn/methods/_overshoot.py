"""How far past the neutral place a model must be sent so that synonyms fall too. d embedding width, k nouns."""

from typing import Final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.maths.ridge import held_inverse
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import name_rows
from clip_unlearn.prompts import thesaurus

USUAL: Final = 1.3
"""Strength for models that know the synonyms of too few nouns to learn from."""

FEWEST: Final = 30
"""Least number of nouns with a synonym that the model knows."""

SHARE: Final = 0.95
"""Share of those synonyms that must fall."""

MARGIN: Final = 2.0
"""How much farther pictures need it than the noun's own embedding, which stands in for them: pictures of a class
differ more from each other than its names do. Chosen on training pictures, see docs/decisions."""

SAME: Final = 1e-9
"""Difference of a score from 1 under which both rows are the same name."""


def overshoot(
    model: Model, request: Request, held: Tensor, weights: Tensor, neutral: Tensor, forget_weight: float
) -> float:
    """Return the strength of a redirect edit, in 1..2, by a rule that looks at texts alone.

    Every noun t of the background that has a synonym p in the thesaurus is forgotten in thought, at strength 1. What
    strength would its synonym have needed, so that a picture like t scores higher with some other name?

    s = (p.t - max_c c.t) / ((1 - (n.t)^2) (p.q) / (t.q + (1 - w t.q) / lambda)),  q = A^-1 t

    with A, lambda and n of the edit and w the noun's own weight in A. Of the synonyms that the model takes for their
    noun, the strength is twice the 95 % quantile. The names to forget are no part of it.
    """
    nouns, synonyms = _pairs(request)
    if len(nouns) < FEWEST or not len(held):
        return USUAL
    rows = unit(name_rows(model, request, [*nouns, *synonyms]))
    first, second = rows[: len(nouns)], rows[len(nouns) :]
    scores = first @ held.T
    same = scores > 1 - SAME
    best = scores.masked_fill(same, -torch.inf).amax(dim=1)
    reach = held_inverse(held, weights, first.T).T
    own, carried = (first * reach).sum(1), (second * reach).sum(1)
    rest = (1 - (same.double() @ weights) * own).clamp_min(0)
    gain = (1 - (first @ neutral).square()) * carried / (own + rest / forget_weight)
    missing = (first * second).sum(1) - best
    known = (missing > 0) & missing.isfinite()
    if int(known.sum()) < FEWEST:
        return USUAL
    needed = torch.where(gain > 0, missing / gain.clamp_min(1e-12), torch.inf)[known]
    quantile = float(needed.sort().values[int(SHARE * (len(needed) - 1))])
    return round(min(2.0, max(1.0, MARGIN * quantile)), 2)


def _pairs(request: Request) -> tuple[list[str], list[str]]:
    """Return the nouns of the background that have a synonym, and the first synonym of each."""
    background = set(request.background)
    pairs = [(names[0], names[1]) for names in thesaurus.senses() if len(names) > 1 and names[0] in background]
    return [noun for noun, _ in pairs], [synonym for _, synonym in pairs]
