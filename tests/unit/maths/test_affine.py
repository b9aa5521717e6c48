"""Affine maps: the algebra that patches rely on."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.maths.vectors import unit

WIDTH = 7
FORMATS = [torch.float32, torch.float64, torch.bfloat16]
seeds = st.integers(0, 10_000)
strengths = st.floats(0.05, 1.0)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_map(seed: int, *, rank: int = 2, offset: bool = True) -> AffineMap:
    return AffineMap(
        down=draw(seed, WIDTH, rank),
        up=draw(seed + 1, rank, WIDTH),
        offset=draw(seed + 2, WIDTH) if offset else None,
    )


def close(first: Tensor, second: Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


def test_by_hand():
    swap = AffineMap(down=torch.tensor([[1.0], [0.0]]), up=torch.tensor([[-1.0, 2.0]]), offset=torch.tensor([5.0, 0.0]))
    assert swap(torch.tensor([[3.0, 4.0]])).tolist() == [[5.0, 10.0]]
    assert swap.rank == 1


def test_half_the_component_is_removed():
    half = remove_directions(torch.tensor([[0.0, 9.0]]), strength=0.5)
    close(half(torch.tensor([[3.0, 4.0]])), torch.tensor([[3.0, 2.0]]))


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5])
def test_a_strength_that_does_nothing_or_reflects_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        remove_directions(torch.eye(2), strength=strength)


def test_null_directions_give_the_identity():
    nothing = remove_directions(torch.zeros(2, WIDTH), strength=1.0)
    rows = draw(0, 3, WIDTH)
    assert nothing.rank == 0
    assert torch.equal(nothing(rows), rows)


@given(seed=seeds, count=st.integers(1, 5))
def test_a_full_projection_is_idempotent(seed, count):
    removal = remove_directions(draw(seed, count, WIDTH), strength=1.0)
    once = removal(draw(seed + 1, 4, WIDTH))
    close(removal(once), once)


@given(seed=seeds, strength=strengths)
def test_what_is_orthogonal_is_untouched(seed, strength):
    directions = draw(seed, 2, WIDTH)
    rows = remove_directions(directions, strength=1.0)(draw(seed + 1, 4, WIDTH))
    close(remove_directions(directions, strength=strength)(rows), rows)


@given(first=seeds, second=seeds, offsets=st.tuples(st.booleans(), st.booleans()))
def test_then_is_composition(first, second, offsets):
    before, after = a_map(first, offset=offsets[0]), a_map(second, rank=1, offset=offsets[1])
    both, rows = before.then(after), draw(0, 4, WIDTH).double()
    torch.testing.assert_close(both(rows), after(before(rows)), rtol=1e-4, atol=1e-3)
    assert both.rank == before.rank + after.rank
    assert (both.offset is None) == (offsets == (False, False))


@given(seed=seeds, offset=st.booleans())
def test_scaled_by_nothing_is_the_identity_and_by_one_itself(seed, offset):
    whole, rows = a_map(seed, offset=offset), draw(0, 4, WIDTH)
    assert torch.equal(whole.scaled(0.0)(rows), rows)
    assert torch.equal(whole.scaled(1.0)(rows), whole(rows))


@given(seed=seeds, factor=st.floats(-2, 2))
def test_scaled_moves_along_the_line(seed, factor):
    whole, rows = a_map(seed), draw(0, 4, WIDTH)
    close(whole.scaled(factor)(rows), rows + factor * (whole(rows) - rows))


@pytest.mark.parametrize("dtype", FORMATS)
@given(seed=seeds, length=st.floats(1e-2, 1e4))
def test_what_is_removed_leaves_exactly_nothing(dtype, seed, length):
    direction = draw(seed, 1, WIDTH)
    removed = remove_directions(direction, strength=1.0)((unit(direction) * length).to(dtype))
    assert removed.dtype == dtype
    assert torch.equal(removed, torch.zeros(1, WIDTH, dtype=dtype))


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_zero_row_stays_zero(dtype):
    zeros = torch.zeros(2, WIDTH, dtype=dtype)
    assert torch.equal(remove_directions(draw(0, 2, WIDTH), strength=0.5)(zeros), zeros)


def test_a_small_rest_is_kept():
    """One part in a hundred is not rounding noise in float32."""
    rest = remove_directions(torch.tensor([[1.0, 0.0]]), strength=1.0)(torch.tensor([[1.0, 0.01]]))
    close(rest, torch.tensor([[0.0, 0.01]]))


def test_nan_is_not_null():
    assert remove_directions(torch.eye(2), strength=1.0)(torch.tensor([[float("nan"), 0.0]])).isnan().any()


def test_an_offset_moves_what_was_removed():
    removal = remove_directions(torch.tensor([[1.0, 0.0]]), strength=1.0)
    moved = AffineMap(down=removal.down, up=removal.up, offset=torch.tensor([0.0, 1e-7]))
    close(moved(torch.tensor([[1.0, 0.0]])), torch.tensor([[0.0, 1e-7]]))
