"""Changes of weights, dense and thin."""

import pytest
import torch

from clip_unlearn.maths.lowrank import LowRank, dense, scaled, survived

THIN = LowRank(left=torch.tensor([[1.0], [2.0]]), right=torch.tensor([[3.0, 4.0, 5.0]]))
FULL = torch.tensor([[3.0, 4.0, 5.0], [6.0, 8.0, 10.0]])


def test_dense_by_hand():
    assert torch.equal(dense(THIN), FULL)
    assert torch.equal(dense(FULL.double()), FULL)


@pytest.mark.parametrize("delta", [THIN, FULL])
def test_scaled_keeps_the_kind(delta):
    half = scaled(delta, 0.5)
    assert type(half) is type(delta)
    assert torch.equal(dense(half), FULL / 2)


def test_everything_survives_in_float32():
    assert survived(torch.zeros(2, 3), THIN) == 1.0


def test_half_precision_swallows_a_small_change():
    weight = torch.ones(1000, 1, dtype=torch.bfloat16)
    assert survived(weight, torch.full((1000, 1), 1e-3)) == 0.0


def test_no_change_survives_whole():
    assert survived(torch.ones(2), torch.zeros(2)) == 1.0
