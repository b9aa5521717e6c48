"""Weights in fewer numbers: what is left of them after rounding or pruning. A weight is [rows, ...]."""

import torch
from torch import Tensor


def quantised(weight: Tensor, bits: int) -> Tensor:
    """Return the weight rounded to whole multiples of a step, one step for each row, in its own number format.

    s_i = max_j |w_ij| / (2^(bits - 1) - 1),  w_ij -> s_i round(w_ij / s_i): symmetric, nearest, half to even. Weights
    of one dimension (biases, norms) stay as they are, as stock quantisers leave them.

    Raises:
        ValueError: if `bits` is under 2.
    """
    if bits < 2:
        raise ValueError(f"bits must be at least 2, not {bits}")
    if weight.ndim < 2:
        return weight
    rows = weight.detach().float().flatten(1)
    steps = steps_of(weight, bits).unsqueeze(1)
    return (steps * (rows / steps).round()).view(weight.shape).to(weight.dtype)


def steps_of(weight: Tensor, bits: int) -> Tensor:
    """Return the step of each row at so many bits, 1 for a row of zeros. [rows, ...] -> [rows]."""
    steps = weight.detach().float().flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    return torch.where(steps > 0, steps, torch.ones_like(steps))


def pruned(weight: Tensor, share: float) -> Tensor:
    """Return the weight with the given share of its entries of least size set to 0; one dimension stays.

    Raises:
        ValueError: if `share` is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), not {share}")
    count = int(share * weight.numel())
    if weight.ndim < 2 or not count:
        return weight
    flat = weight.detach().flatten().clone()
    flat[flat.abs().argsort(stable=True)[:count]] = 0
    return flat.view(weight.shape)
