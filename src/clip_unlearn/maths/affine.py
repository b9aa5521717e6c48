"""Low-rank affine maps of an embedding. Dimensions: n samples, d embedding width, r rank."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from clip_unlearn.maths.vectors import orthonormal_basis

NULL_RATIO = 1e-5
"""An output shorter than this share of its input is rounding noise of an exact zero, in float32 and wider.

Half-precision inputs carry coarser noise already: there the share is the spacing of the format's numbers at 1."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class AffineMap:
    """The map z -> z + (z down) up + offset on row vectors; identity plus rank r.

    Shapes: `down` [d, r], `up` [r, d], `offset` [d] or None, all float32.
    """

    down: Tensor
    up: Tensor
    offset: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the mapped rows; a row that is mapped to nothing but rounding noise becomes exactly null.

        Shapes: [n, d] -> [n, d], same dtype; computed in at least float32.
        """
        exact = rows if rows.dtype == torch.float64 else rows.float()
        down, up = self.down.to(exact), self.up.to(exact)
        moved = exact + (exact @ down) @ up
        if self.offset is not None:
            return (moved + self.offset.to(exact)).to(rows.dtype)
        ratio = max(NULL_RATIO, torch.finfo(rows.dtype).eps)
        shrunk = moved.norm(dim=-1, keepdim=True) <= ratio * exact.norm(dim=-1, keepdim=True)
        return moved.masked_fill(shrunk, 0.0).to(rows.dtype)

    @property
    def rank(self) -> int:
        """Return r, the number of directions the map acts on."""
        return self.down.shape[1]

    def scaled(self, factor: float) -> "AffineMap":
        """Return the map with its difference from the identity multiplied by `factor`."""
        offset = None if self.offset is None else self.offset * factor
        return AffineMap(down=self.down, up=self.up * factor, offset=offset)

    def then(self, after: "AffineMap") -> "AffineMap":
        """Return the one map that acts as this one followed by `after`; its rank is at most the sum of both.

        (I + D1 U1)(I + D2 U2) = I + [D1, D2 + D1 (U1 D2)] [U1; U2], and the offset becomes c1 (I + D2 U2) + c2.
        """
        down1, up1, down2, up2 = (part.double() for part in (self.down, self.up, after.down, after.up))
        down = torch.cat([down1, down2 + down1 @ (up1 @ down2)], dim=1)
        offsets = []
        if self.offset is not None:
            offsets.append(self.offset.double() + (self.offset.double() @ down2) @ up2)
        if after.offset is not None:
            offsets.append(after.offset.double())
        return AffineMap(
            down=down.float(),
            up=torch.cat([up1, up2], dim=0).float(),
            offset=torch.stack(offsets).sum(0).float() if offsets else None,
        )


def inverse_map(one: AffineMap, share: float) -> AffineMap:
    """Return the map that undoes another, but for what that sends to nothing: z -> (z - c) (I + D U)^+.

    Singular values of I + D U of at most `share` of the largest count as nothing. Solved in float64. Where all are
    larger, a map followed by its inverse is the identity.

    Shapes: a map on [*, d] -> one of rank d.
    """
    identity = torch.eye(len(one.down), dtype=torch.float64)
    back = torch.linalg.pinv(identity + one.down.double().cpu() @ one.up.double().cpu(), rtol=share)
    offset = None if one.offset is None else -(one.offset.double().cpu() @ back).float()
    return AffineMap(down=identity.float(), up=(back - identity).float(), offset=offset)


def remove_directions(vectors: Tensor, *, strength: float) -> AffineMap:
    """Return the map that removes `strength` of every component along the rows' span.

    z -> z (I - strength U U^T), U an orthonormal basis of the rows, solved in float64 and stored in float32.

    Shapes: [n, d] -> a map on [*, d] of rank at most n.

    Raises:
        ValueError: if `strength` is not in (0, 1]; outside it the map would do nothing or reflect.
    Source: Nullspace projection, arXiv 2512.14137 (limit of the ridge form) and partial projection, 2512.14113.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must be in (0, 1], not {strength}")
    basis = orthonormal_basis(vectors)
    return AffineMap(down=basis.float(), up=(-strength * basis.T).float())
