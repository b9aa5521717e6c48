"""A linear classifier learned from few examples. n samples, D width, k classes."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

LEAST = 1e-6
"""A column of less deviation is constant."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Logistic:
    """Multinomial logistic regression on standardised columns."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, rows: Tensor) -> Tensor:
        """Return one score per class, the highest being the answer: [n, D] -> [n, k], float64."""
        return ((rows.double() - self.mean) / self.scale) @ self.weight + self.bias


def fit_logistic(rows: Tensor, labels: Tensor, count: int, *, penalty: float = 1.0) -> Logistic:
    """Return the classifier of `count` classes that is the most likely under a penalty on its weights.

    argmin_{A, b} sum_i -log softmax(x_i A + b)_{y_i} + penalty / 2 ||A||_F^2, x the rows less their mean and over their
    deviation; strictly convex in A, so that there is one answer. By L-BFGS in float64, from 0, in the coordinates of
    the space that the rows span: the penalty leaves nothing of A outside of it, and few rows span little.

    Shapes: [n, D], [n] with values in 0..count-1.

    Raises:
        ValueError: if `penalty` is not positive.
    """
    if not penalty > 0:
        raise ValueError(f"penalty must be positive, not {penalty}")
    mean, deviation = rows.double().mean(0), rows.double().std(0, correction=0)
    scale = torch.where(deviation > LEAST, deviation, torch.ones_like(deviation))
    axes, coordinates = torch.linalg.qr(((rows.double() - mean) / scale).T)
    inputs, width = coordinates.T.contiguous(), axes.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = torch.from_numpy(flat).view(width + 1, count)
        logs = (inputs @ both[:-1] + both[-1]).log_softmax(1)
        slope = logs.exp()
        slope[torch.arange(len(labels)), labels] -= 1
        gradient = torch.cat([inputs.T @ slope + penalty * both[:-1], slope.sum(0, keepdim=True)])
        value = -logs[torch.arange(len(labels)), labels].sum() + penalty / 2 * both[:-1].square().sum()
        return float(value), gradient.flatten().numpy()

    start = np.zeros((width + 1) * count)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-5, "ftol": 1e-10})
    both = torch.from_numpy(found.x).view(width + 1, count)
    return Logistic(mean=mean, scale=scale, weight=axes @ both[:-1], bias=both[-1])
