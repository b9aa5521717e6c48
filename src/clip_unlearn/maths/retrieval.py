"""Places of matches in a search. n queries, m candidates, d embedding width."""

import torch
from torch import Tensor

from clip_unlearn.maths.scores import cosines

CHUNK = 1 << 24
"""Scores that are held at a time."""


def best_ranks(queries: Tensor, candidates: Tensor, matches: Tensor) -> Tensor:
    """Return the place of the best match of every query among all candidates, 1 = first.

    1 + the number of candidates that do not match and score at least as much: ties and NaN count against the match,
    other matches of the query do not stand in its way.

    Shapes: [n, d], [m, d], [n, m] of bool -> [n]; m + 1 for a query without a match.
    """
    places = [torch.zeros(0, dtype=torch.int64)]
    step = max(1, CHUNK // max(1, len(candidates)))
    for rows, own in zip(torch.split(queries, step), torch.split(matches, step), strict=True):
        scores = cosines(rows, candidates)
        best = scores.nan_to_num(-torch.inf).masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        ahead = (~(scores < best) & ~own).sum(1) + 1
        places.append(torch.where(own.any(1), ahead, len(candidates) + 1).cpu())
    return torch.cat(places)
