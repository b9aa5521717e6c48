"""The nearest low-rank change to a dense one. Dimensions: m rows, n columns, r rank."""

import torch
from torch import Tensor

from clip_unlearn.maths.lowrank import LowRank


def truncate(change: Tensor, rank: int) -> tuple[LowRank, float]:
    """Return the change of at most `rank` that is nearest in the Frobenius norm, and the share that it misses.

    Truncated singular value decomposition in float64, the root of each singular value on either side; the share is
    ||D - L R|| / ||D||, in [0, 1], and 0 for a change without effect. Shapes: [m, n] -> [m, r] and [r, n].

    Raises:
        ValueError: if the change is no matrix or `rank` is not positive.
    Source: Eckart and Young 1936.
    """
    if change.ndim != 2 or rank < 1:
        raise ValueError(f"a matrix and a positive rank are needed, not shape {tuple(change.shape)} and rank {rank}")
    left, values, right = torch.linalg.svd(change.detach().double().cpu(), full_matrices=False)
    roots = values[:rank].sqrt()
    total = float(values.norm())
    missed = 0.0 if total == 0.0 else float(values[rank:].norm()) / total
    return LowRank(left=(left[:, :rank] * roots).float(), right=(roots[:, None] * right[:rank]).float()), missed
