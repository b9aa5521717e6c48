"""How alike two representations of the same items are. Dimensions: n items, p and q widths."""

from torch import Tensor


def linear_alignment(first: Tensor, second: Tensor) -> float:
    """Return linear centred kernel alignment, in [0, 1]: 1 for the same up to rotation, scale and shift.

    CKA = ||X^T Y||_F^2 / (||X^T X||_F ||Y^T Y||_F) with centred X [n, p] and Y [n, q]; 0 where one of them is constant.
    Taken over n x n products where items are fewer than dimensions.

    Raises:
        ValueError: if the two are of other items, or of fewer than two.
    Source: Kornblith et al. 2019, arXiv 1905.00414.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"{len(first)} and {len(second)} items have no alignment")
    one, two = (side.double() - side.double().mean(0) for side in (first, second))
    if len(one) < max(one.shape[1], two.shape[1]):
        own, other = one @ one.T, two @ two.T
        shared, sizes = (own * other).sum(), own.norm() * other.norm()
    else:
        shared, sizes = (one.T @ two).square().sum(), (one.T @ one).norm() * (two.T @ two).norm()
    return min(1.0, float(shared / sizes)) if float(sizes) > 0 else 0.0
