"""Least-squares concept erasure of labelled features. Dimensions: n samples, d feature width, k labels, r rank."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.vectors import orthonormal_basis

NOISE = 1e-12
"""Correlation of a feature direction with the labels under which it is rounding noise of none."""

FLAT = 1e-10
"""Share of the largest variance that every direction is taken to have at least: samples can be too few to vary."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """What a fit needs to know of labelled features, in float64; batches in another order differ by rounding alone."""

    count: int
    feature_mean: Tensor
    """Mean of the features [d]."""

    label_mean: Tensor
    """Mean of the labels [k]."""

    scatter: Tensor
    """Sum of (z - mean)(z - mean)^T over the samples [d, d]."""

    shared: Tensor
    """Sum of (z - mean)(y - mean)^T over the samples [d, k]."""

    label_scatter: Tensor
    """Sum of (y - mean)^2 over the samples [k]."""

    @staticmethod
    def empty(width: int, labels: int) -> "Moments":
        """Return the moments of no sample yet, for features of this width and this many label columns."""
        zeros = torch.zeros(width, labels, dtype=torch.float64)
        return Moments(
            count=0,
            feature_mean=zeros.new_zeros(width),
            label_mean=zeros.new_zeros(labels),
            scatter=zeros.new_zeros(width, width),
            shared=zeros,
            label_scatter=zeros.new_zeros(labels),
        )

    def add(self, features: Tensor, labels: Tensor) -> "Moments":
        """Return the moments with one more batch of samples. Shapes: [n, d], [n, k]; n may be 0.

        Sums about the joint mean: S = S1 + S2 + n1 n2 / (n1 + n2) (m1 - m2)(m1 - m2)^T, which keeps its digits where
        the mean is long against the spread.

        Raises:
            ValueError: if there are not as many labels as features.
        Source: Chan, Golub and LeVeque 1983.
        """
        rows, marks = features.to(self.scatter), labels.to(self.scatter)
        if len(rows) != len(marks):
            raise ValueError(f"{len(rows)} features and {len(marks)} labels do not belong together")
        if not len(rows):
            return self
        count = self.count + len(rows)
        mean, label_mean = rows.mean(0), marks.mean(0)
        rows, marks = rows - mean, marks - label_mean
        step, label_step = mean - self.feature_mean, label_mean - self.label_mean
        share, bridge = len(rows) / count, self.count * len(rows) / count
        return Moments(
            count=count,
            feature_mean=self.feature_mean + share * step,
            label_mean=self.label_mean + share * label_step,
            scatter=self.scatter + rows.T @ rows + bridge * torch.outer(step, step),
            shared=self.shared + rows.T @ marks + bridge * torch.outer(step, label_step),
            label_scatter=self.label_scatter + marks.square().sum(0) + bridge * label_step.square(),
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Eraser:
    """The map z -> z - ((z - centre) reach) directions^T in float64."""

    directions: Tensor
    """Unit directions along which something is taken away [d, r]."""

    reach: Tensor
    """How much is taken from a sample along each of them [d, r]."""

    centre: Tensor | None
    """What stays where it is [d]; None for the linear map, which keeps 0 in place."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the erased rows, [n, d] -> [n, d] in float64."""
        rows = rows.double()
        away = rows if self.centre is None else rows - self.centre
        return rows - (away @ self.reach) @ self.directions.T

    @property
    def rank(self) -> int:
        """Return r, the number of directions that are taken away."""
        return self.directions.shape[1]

    def as_map(self) -> AffineMap:
        """Return the same map as it is stored: float32, with an offset where there is a centre."""
        offset = None if self.centre is None else (self.centre @ self.reach) @ self.directions.T
        return AffineMap(
            down=self.reach.float(),
            up=-self.directions.T.contiguous().float(),
            offset=None if offset is None else offset.float(),
        )


def fit_eraser(moments: Moments, *, shrinkage: float = 0.0, offset: bool = True, level: Tensor | None = None) -> Eraser:
    """Return the map after which no linear classifier of the features does better than a constant answer.

    r(z) = z - U (U^T C^+ U)^-1 U^T C^+ (z - mean), U an orthonormal basis of the columns of the cross-covariance of
    features and labels, C the covariance of the features. This is z - C^(1/2) P C^(-1/2) (z - mean) with P the
    orthogonal projection on the columns of C^(-1/2) U, without the square roots. The cross-covariance with the labels
    becomes 0, so that the features have the same mean under every label; of all affine maps that do this, this one
    has the least mean squared change.

    `offset` False leaves the mean out and puts the second moment about 0, C + mean mean^T, in place of C: the linear
    map of least mean squared change, with the same guarantee for classifiers that have an intercept; the common mean
    moves a little. `shrinkage` s replaces C by (1 - s) C + s trace(C) / d I: the guarantee stays exact, the change is
    no longer the least one on these samples but steadier on others; s = 1 projects orthogonally.

    `level` are directions [m, d] along which the result shall be the same for every sample: with T an orthonormal basis
    of them, c the mean, or 0 without `offset`, r'(z) = c + (r(z) - c)(I - T T^T), again the least change that does
    both. The rank is at most k + m; 0 where features tell nothing of the labels and `level` is None. Without `level`
    the map is a projection: twice is once.

    Raises:
        ValueError: if there are no samples, or `shrinkage` is outside [0, 1].
    Source: LEACE, Belrose et al. 2023, arXiv 2306.03819, theorem 4.3; the linear form and `level` are ours.
    """
    if not moments.count or not 0 <= shrinkage <= 1:
        raise ValueError(f"{moments.count} samples and shrinkage {shrinkage} do not make an eraser")
    spread = _spread(moments, shrinkage)
    if not offset:
        spread = spread + torch.outer(moments.feature_mean, moments.feature_mean)
    values, vectors = torch.linalg.eigh(spread)
    values = values.clamp_min(FLAT * float(values[-1]))
    directions = _told_directions(moments)
    weighted = (vectors / values) @ (vectors.T @ directions)
    reach = torch.linalg.solve(directions.T @ weighted, weighted.T).T
    if level is not None:
        flat = orthonormal_basis(level.to(directions))
        reach = torch.cat([reach, flat - reach @ (directions.T @ flat)], dim=1)
        directions = torch.cat([directions, flat], dim=1)
    return Eraser(directions=directions, reach=reach, centre=moments.feature_mean if offset else None)


def _spread(moments: Moments, shrinkage: float) -> Tensor:
    """Return the covariance, drawn towards that of a ball of the same trace: [d, d]."""
    covariance = moments.scatter / moments.count
    ball = covariance.trace() / len(covariance) * torch.eye(len(covariance)).to(covariance)
    return (1 - shrinkage) * covariance + shrinkage * ball


def _told_directions(moments: Moments) -> Tensor:
    """Return an orthonormal basis of the feature directions that tell of the labels: [d, r], r <= k."""
    size = (moments.scatter.trace() + moments.count * moments.feature_mean.square().sum()).sqrt()
    scale = (size * moments.label_scatter.sqrt()).clamp_min(torch.finfo(torch.float64).tiny)
    left, values, _ = torch.linalg.svd(moments.shared / scale, full_matrices=False)
    told: Tensor = left[:, values > NOISE]
    return told
