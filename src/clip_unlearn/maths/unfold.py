"""Back from a changed last layer to the map of embeddings. Dimensions: d embedding width, D feature width, r rank."""

import torch
from torch import Tensor

from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import Delta, LowRank


def unfold(weight: Tensor, delta: Delta, *, transposed: bool = False) -> tuple[AffineMap, float]:
    """Return the map of embeddings that a change of a readout weight amounts to, and the share that is none.

    Rows z = h A with A = W^T for a weight [d, D] and A = W for a transposed one [D, d]. The change is I O, I [D, r]
    and O [r, d], so z' = h A + h I O. It is a map z' = z (I + X O) exactly when A X = I, which is solved by least
    squares in float64. The residual is ||A X O - I O|| / ||I O|| (Frobenius): 0 when the change depends on the
    embedding alone, up to 1 when it depends on what the embedding does not hold.

    A change without effect gives a map of rank 0 and residual 0.
    """
    matrix = weight.detach().double().cpu()
    if isinstance(delta, LowRank):
        left, right = delta.left.double().cpu(), delta.right.double().cpu()
    else:
        left, right = delta.double().cpu(), torch.eye(delta.shape[1], dtype=torch.float64)
    matrix, inward, outward = (matrix, left, right) if transposed else (matrix.T, right.T, left.T)
    change = inward @ outward
    size = float(change.norm())
    if size == 0.0:
        width = matrix.shape[1]
        return AffineMap(down=torch.zeros(width, 0), up=torch.zeros(0, width)), 0.0
    solved = torch.linalg.lstsq(matrix, inward, driver="gelsy").solution
    residual = float((matrix @ solved @ outward - change).norm()) / size
    return AffineMap(down=solved.float(), up=outward.float()), residual
