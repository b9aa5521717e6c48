"""A changed last layer as a map of embeddings, and what is none."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.unfold import unfold


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def change_of(weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, *, transposed: bool) -> LowRank:
    """Return the change of a weight that acts as z -> z (I + down up) on embeddings, by definition."""
    if transposed:
        return LowRank(left=weight @ down, right=up)
    return LowRank(left=up.T, right=down.T @ weight)


@given(st.integers(1, 4), st.integers(2, 8), st.integers(0, 6), st.booleans(), st.booleans(), st.integers(0, 2**31 - 1))
def test_what_was_folded_comes_back(rank, width, extra, transposed, as_dense, seed):
    features = draw(9, width + extra, seed=seed)
    weight = draw(width + extra, width, seed=seed + 1) if transposed else draw(width, width + extra, seed=seed + 1)
    down, up = draw(width, rank, seed=seed + 2), draw(rank, width, seed=seed + 3)
    change = change_of(weight, down, up, transposed=transposed)
    found, residual = unfold(weight, change.dense() if as_dense else change, transposed=transposed)
    embeddings = features @ (weight if transposed else weight.T)
    edited = features @ (weight + change.dense() if transposed else (weight + change.dense()).T)
    condition = float(torch.linalg.cond(weight.double()))
    assert residual <= 1e-6 * condition
    torch.testing.assert_close(found(embeddings), edited, rtol=1e-4 * condition, atol=1e-5 * condition)


@pytest.mark.parametrize("transposed", [False, True])
def test_a_change_that_reads_other_features_is_no_map(transposed):
    weight = draw(20, 4) if transposed else draw(4, 20)
    left, right = (20, 4) if transposed else (4, 20)
    change = LowRank(left=draw(left, 2, seed=1), right=draw(2, right, seed=2))
    _, residual = unfold(weight, change, transposed=transposed)
    assert 0.5 < residual <= 1.0


def test_half_of_a_change_may_be_a_map_and_half_not():
    weight = torch.zeros(2, 4)
    weight[0, 0] = weight[1, 1] = 1.0
    change = torch.zeros(2, 4)
    change[0, 0] = change[0, 3] = 1.0
    _, residual = unfold(weight, change)
    assert residual == pytest.approx(0.5**0.5)


def test_no_change_is_the_identity():
    found, residual = unfold(draw(3, 5), torch.zeros(3, 5))
    assert (found.rank, residual) == (0, 0.0)
    rows = draw(2, 3)
    assert torch.equal(found(rows), rows)


def test_a_weight_that_misses_directions_still_solves():
    weight = draw(4, 6)
    weight[3] = weight[2]
    change = change_of(weight, draw(4, 1, seed=1), draw(1, 4, seed=2), transposed=False)
    found, residual = unfold(weight, change)
    features = draw(5, 6, seed=3)
    assert residual < 1e-6
    torch.testing.assert_close(found(features @ weight.T), features @ (weight + change.dense()).T, rtol=1e-4, atol=1e-4)
