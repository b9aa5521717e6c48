"""The linear map nearest to the identity that moves some directions and holds others. d width, m moved, n held."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from clip_unlearn.maths.affine import AffineMap

SAME = 1e-10
"""Largest difference in any number between two rows that count as the same row."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeEdit:
    """The matrix W = I + shift reach^T, in float64. Shapes: both factors [d, m]; rank at most m."""

    shift: Tensor
    """Where the moved directions go, beyond where they were."""

    reach: Tensor
    """How far a direction is one of the moved ones and none of the held ones."""

    def on_scores(self) -> AffineMap:
        """Return z -> z W, convention R: the score of z with a name t becomes z . (W t)."""
        return AffineMap(down=self.shift.float(), up=self.reach.T.contiguous().float())

    def on_vectors(self) -> AffineMap:
        """Return t -> t W^T, convention C: every vector is itself mapped by W."""
        return AffineMap(down=self.reach.float(), up=self.shift.T.contiguous().float())

    def dense(self) -> Tensor:
        """Return W itself, [d, d] in float64."""
        return torch.eye(self.shift.shape[0], dtype=torch.float64, device=self.shift.device) + self.shift @ self.reach.T


def ridge_edit(
    moved: Tensor, destinations: Tensor, held: Tensor, *, forget_weight: float, retain_weight: float | Tensor
) -> RidgeEdit:
    """Return the edit that sends the rows of `moved` to `destinations` and leaves the rows of `held` in place.

    argmin_W ||W - I||_F^2 + lambda ||W T_f - T_0||_F^2 + sum_j mu_j ||W t_j - t_j||^2
    W = I + (T_0 - T_f) (S + I / lambda)^-1 T_f^T A^-1  with  A = I + sum_j mu_j t_j t_j^T,  S = T_f^T A^-1 T_f

    lambda = `forget_weight`, infinity included: then W T_f = T_0 exactly, by a pseudo-inverse of S. mu =
    `retain_weight`, one number or one per held row. Equal rows of `moved` count once. Solved in float64, with systems
    of the smaller of n and d, and of m.

    Shapes: [m, d], [m, d], [n, d]; n may be 0.

    Raises:
        ValueError: if `forget_weight` is not positive or a `retain_weight` is negative.
    Source: closed form of the objective of arXiv 2512.14137 (there T_0 = 0); destinations and the limit are ours.
    """
    weights = torch.as_tensor(retain_weight, dtype=torch.float64, device=moved.device).expand(len(held))
    if not forget_weight > 0 or bool((weights < 0).any()):
        raise ValueError(f"forget_weight {forget_weight} must be positive, retain_weight {retain_weight} not negative")
    names, goals = _distinct(moved.double(), destinations.double())
    reach = held_inverse(held, weights, names.T)
    overlap = names @ reach
    if math.isinf(forget_weight):
        shift = (goals - names).T @ torch.linalg.pinv(overlap, hermitian=True, rtol=SAME)
    else:
        system = overlap + torch.eye(len(names), dtype=torch.float64, device=overlap.device) / forget_weight
        shift = torch.cholesky_solve(goals - names, torch.linalg.cholesky((system + system.T) / 2)).T
    return RidgeEdit(shift=shift, reach=reach)


def held_inverse(held: Tensor, weights: Tensor, columns: Tensor) -> Tensor:
    """Return (I + sum_j w_j h_j h_j^T)^-1 columns in float64, by the smaller of two systems.

    Shapes: [n, d], [n], [d, m] -> [d, m]; n may be 0.
    """
    columns = columns.double()
    if not len(held):
        return columns
    rows = held.double() * weights.double().sqrt().unsqueeze(1)
    if rows.shape[0] >= rows.shape[1]:
        return _solve(rows.T @ rows, columns)
    return columns - rows.T @ _solve(rows @ rows.T, rows @ columns)


def _solve(matrix: Tensor, columns: Tensor) -> Tensor:
    matrix = matrix + torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_solve(columns, torch.linalg.cholesky(matrix))


def _distinct(rows: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows without repetitions, and the partner of each; two sentences can tokenise alike."""
    same = torch.cdist(rows, rows, p=torch.inf, compute_mode="donot_use_mm_for_euclid_dist") <= SAME
    first = same.int().argmax(dim=1) == torch.arange(len(rows), device=rows.device)
    return rows[first], partners[first]
