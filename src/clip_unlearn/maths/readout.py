"""Changes of a tower's last linear layer. Dimensions: m texts moved, n held, D feature width, d embedding width.

Features u are rows, an embedding is u W + b, and a change is a thin product [D, r] [r, d] added to W.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.linalg import vector_norm

from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.ridge import ridge_edit


def solve_readout(
    features: Tensor, steps: Tensor, held: Tensor, *, forget_weight: float, retain_weight: float | Tensor
) -> LowRank:
    """Return the smallest change of the layer that moves the embeddings of some texts and holds those of others.

    argmin_C ||C||_F^2 + lambda ||F C - S||_F^2 + sum_j mu_j ||h_j C||^2
    C = A^-1 F^T (F A^-1 F^T + I / lambda)^-1 S  with  A = I + sum_j mu_j h_j^T h_j

    F the features to move, S the steps that their embeddings shall take, h_j the features to hold; lambda =
    `forget_weight`, infinity included; mu = `retain_weight`, one number or one per held row. Solved in float64 and
    returned so; equal rows of F count once, with the first one's step. This is `ridge_edit` of the map
    u -> [u, coordinates of the step].

    Shapes: [m, D], [m, d], [n, D] -> [D, r] and [r, d] with r <= m.

    Raises:
        ValueError: if `forget_weight` is not positive or `retain_weight` is negative.
    """
    width, count = features.shape[1], len(features)
    names, kept = (torch.cat([rows.double(), rows.new_zeros(len(rows), count)], dim=1) for rows in (features, held))
    goals = torch.cat([features.double(), torch.eye(count).to(names)], dim=1)
    edit = ridge_edit(names, goals, kept, forget_weight=forget_weight, retain_weight=retain_weight)
    return LowRank(left=edit.reach[:width], right=edit.shift[width:].T @ steps.double())


@final
@dataclass(frozen=True, kw_only=True)
class Training:
    """How a readout is trained."""

    rank: int
    steps: int
    learning_rate: float
    forget_weight: float
    retain_weight: float
    change_weight: float


@torch.enable_grad()
def train_readout(
    features: Tensor,
    ways: Tensor,
    held: Tensor,
    training: Training,
    generator: torch.Generator,
    progress: Callable[[int], None],
) -> LowRank:
    """Return the best low-rank change of the layer that Adam comes by, by the loss that it is trained with.

    L = lambda_f ||W_ - F A B / r||_F + lambda_p ||H A B / r||_F + lambda_w ||A B||_F, norms and not their squares;
    W_ = `ways`, the way from each embedding to its destination; change C = A B / r of rank r. A starts uniform in
    +-1 / sqrt(D), B at 0. All texts in every step, in float64. The state of least loss is kept, also the first one.
    `progress` is called with the number of steps done.

    Shapes: [m, D], [m, d], [n, D] -> [D, r] and [r, d] in float64.
    Source: Kravets and Namboodiri, TMLR 2025 (V2SD2uVKEE).
    """
    moved, wanted, kept = (rows.detach().double() for rows in (features, ways, held))
    width = moved.shape[1]
    start = (2 * torch.rand(width, training.rank, generator=generator, dtype=torch.float64) - 1) / width**0.5
    left = start.to(moved.device).requires_grad_()
    right = wanted.new_zeros(training.rank, wanted.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([left, right], lr=training.learning_rate)
    best, least = (left.detach().clone(), right.detach().clone()), torch.inf
    for step in range(training.steps + 1):
        scaled = right / training.rank
        loss = (
            training.forget_weight * vector_norm(wanted - moved @ left @ scaled)
            + training.retain_weight * vector_norm(kept @ left @ scaled)
            + training.change_weight * vector_norm(left @ right)
        )
        if loss.item() < least:
            best, least = (left.detach().clone(), right.detach().clone()), loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step)
    return LowRank(left=best[0], right=best[1] / training.rank)
