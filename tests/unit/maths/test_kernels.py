"""Alignment of representations: by the definition over kernels, and what it does not see."""

import pytest
import torch

from clip_unlearn.maths.kernels import linear_alignment


def rows(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("count", "width"), [(40, 6), (5, 30)])
def test_it_is_the_alignment_of_centred_kernels(count: int, width: int) -> None:
    """HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with H = I - 11^T / n, over many items and over few."""
    one, two = rows(count, width, 1), rows(count, width + 2, 2)
    centre = torch.eye(count, dtype=torch.float64) - 1 / count
    first, second = (centre @ side @ side.T @ centre for side in (one, two))
    slow = float((first * second).sum() / ((first**2).sum() * (second**2).sum()).sqrt())
    assert linear_alignment(one, two) == pytest.approx(slow)


def test_rotation_scale_and_shift_do_not_count() -> None:
    one = rows(50, 8, 1)
    turned, _ = torch.linalg.qr(rows(8, 8, 2))
    assert linear_alignment(one, 3 * one @ turned + 5) == pytest.approx(1)
    assert linear_alignment(one, rows(50, 8, 3)) < 0.5
    assert linear_alignment(one, torch.ones(50, 8)) == 0


def test_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="no alignment"):
        linear_alignment(rows(3, 2, 1), rows(4, 2, 1))
