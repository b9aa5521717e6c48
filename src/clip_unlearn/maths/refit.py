"""A last layer fitted again from what it should give. n samples, D feature width, d embedding width."""

import torch
from torch import Tensor


def refit(features: Tensor, targets: Tensor, *, share: float, start: Tensor | None = None) -> Tensor:
    """Return the matrix that sends features nearest to targets and stays near a start, in float64.

    argmin_M ||H M - T||_F^2 + lambda ||M - M_0||_F^2 = M_0 + (H^T H + lambda I)^-1 H^T (T - H M_0)

    with lambda = share x trace(H^T H) / D, a share of the mean eigenvalue, so that one share suits features of every
    size; M_0 = `start`, 0 where there is none. Solved with the smaller of two systems, D or n.

    Shapes: [n, D], [n, d], [D, d] -> [D, d].

    Raises:
        ValueError: if `share` is not positive.
    """
    if not share > 0:
        raise ValueError(f"share must be positive, not {share}")
    rows, wanted = features.double(), targets.double()
    first = rows.new_zeros(rows.shape[1], wanted.shape[1]) if start is None else start.double()
    penalty = share * float(rows.square().sum()) / rows.shape[1]
    left = wanted - rows @ first
    if rows.shape[0] >= rows.shape[1]:
        return first + _solve(rows.T @ rows, penalty, rows.T @ left)
    return first + rows.T @ _solve(rows @ rows.T, penalty, left)


def _solve(matrix: Tensor, penalty: float, columns: Tensor) -> Tensor:
    matrix = matrix + penalty * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_solve(columns, torch.linalg.cholesky(matrix))
