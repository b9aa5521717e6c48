"""Changes of a weight, dense or as a product of two thin factors. Dimensions: m rows, n columns, r rank."""

from dataclasses import dataclass
from typing import TypeAlias, final

from torch import Tensor


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LowRank:
    """The change `left @ right` of one weight matrix. Shapes: `left` [m, r], `right` [r, n]."""

    left: Tensor
    right: Tensor

    def dense(self) -> Tensor:
        """Return the full change [m, n] in float32."""
        return self.left.float() @ self.right.float()

    def scaled(self, factor: float) -> "LowRank":
        """Return `factor` times the change."""
        return LowRank(left=self.left * factor, right=self.right)


Delta: TypeAlias = Tensor | LowRank
"""A change of one weight, in float32."""


def dense(delta: Delta) -> Tensor:
    """Return the change as one float32 tensor of the weight's shape."""
    return delta.dense() if isinstance(delta, LowRank) else delta.float()


def scaled(delta: Delta, factor: float) -> Delta:
    """Return `factor` times the change, as thin as it was."""
    return delta.scaled(factor) if isinstance(delta, LowRank) else delta * factor


def survived(weight: Tensor, delta: Delta) -> float:
    """Return the share of the change that is left after the cast to the weight's dtype, about 1 when all of it is.

    <cast(W + D) - W, D> / ||D||^2: 1 for float32 weights, less where a half-precision weight swallows small changes.
    """
    full = dense(delta)
    kept = ((weight.float() + full).to(weight.dtype).float() - weight.float()).double()
    power = full.double().square().sum()
    return float((kept * full.double()).sum() / power) if power > 0 else 1.0
