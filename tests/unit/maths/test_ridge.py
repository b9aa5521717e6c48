"""Ridge edits against dense formulas, their limits, and what the two conventions do. All in float64."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from clip_unlearn.maths.ridge import RidgeEdit, held_inverse, ridge_edit
from clip_unlearn.maths.vectors import orthonormal_basis, unit

EXACT = {"rtol": 1e-10, "atol": 1e-10}
CLOSE = {"rtol": 1e-6, "atol": 1e-6}
SIZES = [(3, 0, 8), (1, 4, 8), (3, 5, 8), (3, 8, 8), (2, 20, 8), (8, 3, 8)]
"""m moved, n held, d width: fewer held rows than numbers in a row, as many, more, and none."""


def rows(count: int, width: int, *, seed: int = 0) -> Tensor:
    return unit(torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def held_form(held: Tensor, weights: Tensor) -> Tensor:
    """Return A = I + sum_j w_j h_j h_j^T, term by term."""
    total = torch.eye(held.shape[1], dtype=torch.float64)
    for row, weight in zip(held, weights, strict=True):
        total = total + weight * torch.outer(row, row)
    return total


def dense_form(moved: Tensor, destinations: Tensor, held: Tensor, weights: Tensor, forget_weight: float) -> Tensor:
    """Return (A + lambda T_0 T_f^T)(A + lambda T_f T_f^T)^-1 with names as columns."""
    inner = held_form(held, weights)
    left = inner + forget_weight * destinations.T @ moved
    return left @ torch.linalg.inv(inner + forget_weight * moved.T @ moved)


def objective(matrix: Tensor, problem: tuple[Tensor, Tensor, Tensor, Tensor, float]) -> Tensor:
    moved, destinations, held, weights, forget_weight = problem
    kept = ((held @ matrix.T - held).square().sum(1) * weights).sum()
    reached = (moved @ matrix.T - destinations).square().sum()
    return (matrix - torch.eye(len(matrix), dtype=torch.float64)).square().sum() + forget_weight * reached + kept


def edit_of(problem: tuple[Tensor, Tensor, Tensor, Tensor, float]) -> RidgeEdit:
    moved, destinations, held, weights, forget_weight = problem
    return ridge_edit(moved, destinations, held, forget_weight=forget_weight, retain_weight=weights)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    width, seed = draw(st.integers(2, 10)), draw(st.integers(0, 10_000))
    count, kept = draw(st.integers(1, 5)), draw(st.integers(0, 20))
    weights = 50 * torch.rand(kept, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (
        rows(count, width, seed=seed),
        2 * rows(count, width, seed=seed + 1),
        rows(kept, width, seed=seed + 2),
        weights,
        draw(st.floats(0.01, 100)),
    )


@given(problem=problems())
def test_low_rank_is_the_dense_form(problem):
    torch.testing.assert_close(edit_of(problem).dense(), dense_form(*problem), **EXACT)


@pytest.mark.parametrize(("count", "kept", "width"), SIZES)
def test_sent_to_zero_it_is_the_published_form(count, kept, width):
    moved, held = rows(count, width), rows(kept, width, seed=1)
    edit = ridge_edit(moved, torch.zeros_like(moved), held, forget_weight=7.0, retain_weight=3.0)
    inner = held_form(held, torch.full((kept,), 3.0))
    torch.testing.assert_close(edit.dense(), inner @ torch.linalg.inv(inner + 7 * moved.T @ moved), **EXACT)
    assert edit.shift.shape == edit.reach.shape == (width, count)


@pytest.mark.parametrize("kept", [4, 20])
def test_one_weight_is_that_weight_for_every_row(kept):
    moved, held = rows(2, 8), rows(kept, 8, seed=1)
    one, each, other = (
        ridge_edit(moved, -moved, held, forget_weight=2.0, retain_weight=weight).dense()
        for weight in (5.0, torch.full((kept,), 5.0), torch.arange(kept, dtype=torch.float64))
    )
    assert torch.equal(one, each)
    assert not torch.allclose(one, other, atol=1e-3)


@given(problem=problems(), seed=st.integers(0, 10_000))
def test_it_is_the_minimiser(problem, seed):
    matrix = edit_of(problem).dense().requires_grad_()
    least = objective(matrix, problem)
    (gradient,) = torch.autograd.grad(least, matrix)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-8)
    step = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for size in (1e-2, 1.0):
        # The first term alone makes the objective grow by the square of the step.
        grown = objective(matrix.detach() + size * step, problem) - least.detach()
        assert grown >= 0.99 * size**2 * step.square().sum()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_without_held_rows_infinity_is_the_orthogonal_projector(count):
    moved = rows(count, 8)
    edit = ridge_edit(moved, torch.zeros_like(moved), moved[:0], forget_weight=math.inf, retain_weight=0.0)
    basis = orthonormal_basis(moved)
    torch.testing.assert_close(edit.dense(), torch.eye(8, dtype=torch.float64) - basis @ basis.T, **EXACT)


def test_a_weight_of_zero_holds_nothing():
    moved, held = rows(2, 8), rows(5, 8, seed=1)
    free, zero = (
        ridge_edit(moved, -moved, kept, forget_weight=math.inf, retain_weight=0.0).dense() for kept in (held[:0], held)
    )
    torch.testing.assert_close(zero, free, **EXACT)


@pytest.mark.parametrize("kept", [0, 5, 20])
def test_infinity_is_where_growing_weights_go(kept):
    moved, goals, held = rows(3, 8), rows(3, 8, seed=1), rows(kept, 8, seed=2)
    limit, *finite = (
        ridge_edit(moved, goals, held, forget_weight=weight, retain_weight=2.0).dense()
        for weight in (math.inf, 1e2, 1e4, 1e6)
    )
    gaps = [float((matrix - limit).norm()) for matrix in finite]
    assert gaps[0] > 1e-3
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.9)
    assert gaps[2] < 1e-4
    torch.testing.assert_close(moved @ limit.T, goals, **EXACT)


@pytest.mark.parametrize(("count", "kept", "width"), SIZES)
def test_the_exact_inverse(count, kept, width):
    moved, held, weight = rows(count, width), rows(kept, width, seed=1), 5.0
    edit = ridge_edit(moved, torch.zeros_like(moved), held, forget_weight=weight, retain_weight=3.0)
    back = weight * moved.T @ moved @ torch.linalg.inv(held_form(held, torch.full((kept,), 3.0)))
    identity = torch.eye(width, dtype=torch.float64)
    torch.testing.assert_close(edit.dense() @ (identity + back), identity, **EXACT)


@pytest.mark.parametrize("kept", [0, 5, 20])
def test_the_limit_is_idempotent_and_finite_edits_are_not(kept):
    moved, held = rows(3, 8), rows(kept, 8, seed=1)
    limit, finite = (
        ridge_edit(moved, torch.zeros_like(moved), held, forget_weight=weight, retain_weight=2.0).dense()
        for weight in (math.inf, 1.0)
    )
    torch.testing.assert_close(limit @ limit, limit, **EXACT)
    assert not torch.allclose(finite @ finite, finite, atol=1e-3)


@pytest.mark.parametrize("weight", [0.5, 1e6, math.inf])
def test_repeated_prompts_count_once(weight):
    moved, goals, held = rows(2, 8), rows(2, 8, seed=1), rows(5, 8, seed=2)
    once = ridge_edit(moved, goals, held, forget_weight=weight, retain_weight=2.0)
    again = ridge_edit(moved[[0, 1, 0, 0]], goals[[0, 1, 0, 0]], held, forget_weight=weight, retain_weight=2.0)
    torch.testing.assert_close(again.dense(), once.dense(), **EXACT)
    assert again.shift.shape == (8, 2)


def test_in_the_limit_prompts_in_the_span_of_others_change_nothing():
    moved, held = rows(2, 8), rows(5, 8, seed=2)
    more = torch.cat([moved, unit(moved.sum(0, keepdim=True))])
    first, second = (
        ridge_edit(names, torch.zeros_like(names), held, forget_weight=math.inf, retain_weight=2.0).dense()
        for names in (moved, more)
    )
    torch.testing.assert_close(second, first, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kept", [0, 5])
def test_conventions_are_transposes(kept):
    moved, held, vectors = rows(2, 8), rows(kept, 8, seed=1), rows(6, 8, seed=2)
    edit = ridge_edit(moved, torch.zeros_like(moved), held, forget_weight=10.0, retain_weight=20.0)
    scores, themselves = edit.on_scores()(vectors), edit.on_vectors()(vectors)
    torch.testing.assert_close(scores, vectors @ edit.dense(), **CLOSE)
    torch.testing.assert_close(themselves, vectors @ edit.dense().T, **CLOSE)
    assert torch.allclose(scores, themselves, atol=1e-6) == (kept == 0)


def test_one_convention_takes_the_score_the_other_the_direction():
    """R: z W t_f = 0 for every z, but z W keeps a part along t_f. C: the other way round for W^T z."""
    moved, held, vectors = rows(1, 8), rows(5, 8, seed=1), rows(6, 8, seed=2)
    matrix = ridge_edit(moved, moved * 0, held, forget_weight=math.inf, retain_weight=20.0).dense()
    torch.testing.assert_close(vectors @ matrix @ moved[0], torch.zeros(6, dtype=torch.float64), **EXACT)
    assert float((vectors @ matrix.T @ moved[0]).abs().max()) > 0.01


@given(seed=st.integers(0, 10_000), weight=st.floats(0.01, 1e4))
def test_on_the_text_side_one_name_only_shrinks(seed, weight):
    """W t_f = t_f / (1 + lambda t_f . A^-1 t_f): normalisation brings it back."""
    moved, held = rows(1, 8, seed=seed), rows(5, 8, seed=seed + 1)
    matrix = ridge_edit(moved, moved * 0, held, forget_weight=weight, retain_weight=3.0).dense()
    inner = held_form(held, torch.full((5,), 3.0))
    share = 1 / (1 + weight * moved[0] @ torch.linalg.solve(inner, moved[0]))
    torch.testing.assert_close(matrix @ moved[0], share * moved[0], **EXACT)


def test_on_the_text_side_several_names_stay_in_their_span():
    moved, held = rows(3, 8), rows(5, 8, seed=1)
    matrix = ridge_edit(moved, moved * 0, held, forget_weight=5.0, retain_weight=3.0).dense()
    basis = orthonormal_basis(moved)
    shown = moved @ matrix.T
    torch.testing.assert_close(shown @ basis @ basis.T, shown, **EXACT)
    assert float(shown.norm()) > 0.1


def test_held_names_stay_as_their_weight_grows():
    moved, held = rows(2, 8), rows(4, 8, seed=1)
    gaps = [
        float(
            (held @ ridge_edit(moved, -moved, held, forget_weight=10.0, retain_weight=weight).dense().T - held).norm()
        )
        for weight in (0.0, 1.0, 1e2, 1e4, 1e6)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert gaps[-1] < 1e-4


@pytest.mark.parametrize(("count", "kept", "width"), SIZES)
def test_held_inverse_is_the_inverse(count, kept, width):
    held, columns = rows(kept, width), rows(count, width, seed=1).T
    weights = torch.arange(kept, dtype=torch.float64)
    expected = torch.linalg.inv(held_form(held, weights)) @ columns
    torch.testing.assert_close(held_inverse(held, weights, columns), expected, **EXACT)


def test_held_inverse_works_in_float64():
    found = held_inverse(rows(3, 8).float(), torch.ones(3), torch.eye(8))
    assert found.dtype == torch.float64


@pytest.mark.parametrize(
    ("forget_weight", "retain_weight"),
    [(0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, -0.1), (1.0, torch.tensor([1.0, -1.0, 1.0]))],
)
def test_weights_that_mean_nothing_are_refused(forget_weight, retain_weight):
    moved, held = rows(2, 8), rows(3, 8, seed=1)
    with pytest.raises(ValueError, match=r"must be positive, retain_weight .* not negative"):
        ridge_edit(moved, moved, held, forget_weight=forget_weight, retain_weight=retain_weight)
