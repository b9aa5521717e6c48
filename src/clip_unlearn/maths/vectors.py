"""Directions in the shared space. Dimensions: n vectors, d embedding width, r rank."""

import torch
from torch import Tensor

NULL = 1e-6
"""Norm under which a vector counts as null: it has no direction, only rounding noise."""


CHUNK = 1 << 17
"""Numbers that are converted to float64 at a time."""


def unit(vectors: Tensor) -> Tensor:
    """Return the vectors scaled to length 1; a null vector stays exactly null.

    x / ||x||_2 along the last dimension, 0 where ||x|| <= 1e-6. Dividing a null embedding by its norm would blow
    rounding noise up into an arbitrary direction that differs by device and dtype; a zero vector scores 0 everywhere.
    NaN stays NaN: a broken model must not pass for one that forgot.

    Shapes: [..., d] -> [..., d].
    """
    norms = vectors.norm(dim=-1, keepdim=True)
    return torch.where(norms <= NULL, torch.zeros_like(vectors), vectors / norms.clamp_min(NULL))


def mean_unit_rows(vectors: Tensor, size: int) -> Tensor:
    """Return the mean of the unit vectors of every `size` rows in a row, in float64; for names, `size` templates each.

    In chunks that stay in the processor's cache: long lists would otherwise spend their time on memory.

    Shapes: [k * size, d] -> [k, d].
    """
    step = size * max(1, CHUNK // max(1, size * vectors.shape[1]))
    means = [_mean_unit(part.double().view(-1, size, part.shape[1])) for part in torch.split(vectors, step)]
    return torch.cat(means) if means else vectors.new_zeros((0, vectors.shape[1]), dtype=torch.float64)


def _mean_unit(groups: Tensor) -> Tensor:
    """Return the mean of the unit vectors of each group, without writing them out: [k, size, d] -> [k, d]."""
    norms = groups.norm(dim=-1)
    shares = torch.where(norms <= NULL, torch.zeros_like(norms), 1 / norms.clamp_min(NULL)) / groups.shape[1]
    return torch.bmm(shares.unsqueeze(1), groups).squeeze(1)


def orthonormal_basis(vectors: Tensor, *, tolerance: float = 1e-6) -> Tensor:
    """Return an orthonormal basis of the span of the rows, as columns, in float64.

    Right singular vectors whose singular value exceeds `tolerance` times the largest. A singular value decomposition,
    not Gram-Schmidt: two sentences that tokenise alike are one direction, not a division by rounding noise.

    Shapes: [n, d] -> [d, r] with r <= min(n, d); r = 0 when every row is null.
    """
    _, values, right = torch.linalg.svd(vectors.double(), full_matrices=False)
    if values.numel() == 0 or values[0] <= NULL:
        return vectors.new_zeros((vectors.shape[-1], 0), dtype=torch.float64)
    basis: Tensor = right[values > tolerance * values[0]].T.contiguous()
    return basis
