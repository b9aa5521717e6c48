"""The nearest low-rank change: exact where it can be, and honest about what it misses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.maths.truncate import truncate


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**31 - 1))
def test_the_share_missed_is_what_is_missing(rows, columns, rank, seed):
    change = draw(rows, columns, seed=seed)
    found, missed = truncate(change, rank)
    assert found.left.shape == (rows, min(rank, rows, columns))
    assert float((found.dense() - change).norm() / change.norm()) == pytest.approx(missed, abs=1e-5)


def test_no_matrix_of_that_rank_is_nearer():
    change = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    found, missed = truncate(change, 2)
    assert missed == pytest.approx((1 / 14) ** 0.5)
    assert torch.allclose(found.dense(), torch.diag(torch.tensor([3.0, 2.0, 0.0])), atol=1e-6)


def test_a_change_of_that_rank_is_kept_whole():
    change = draw(5, 2) @ draw(2, 7, seed=1)
    found, missed = truncate(change, 2)
    assert missed < 1e-6
    assert torch.allclose(found.dense(), change, atol=1e-5)


def test_no_change_misses_nothing():
    assert truncate(torch.zeros(3, 4), 2)[1] == 0.0


@pytest.mark.parametrize(("shape", "rank"), [((3,), 1), ((3, 3), 0)])
def test_what_cannot_be_cut(shape, rank):
    with pytest.raises(ValueError, match="a matrix and a positive rank"):
        truncate(torch.ones(shape), rank)
