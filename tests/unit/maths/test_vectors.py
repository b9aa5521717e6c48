"""Directions of the shared space: answers by hand, and what a null vector does in every number format."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from clip_unlearn.maths import vectors as maths_vectors
from clip_unlearn.maths.vectors import NULL, mean_unit_rows, orthonormal_basis, unit

FORMATS = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("dtype", FORMATS)
def test_unit_by_hand(dtype):
    vectors = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=dtype)
    expected = torch.tensor([[0.6, 0.8], [0.0, 1.0]], dtype=dtype)
    torch.testing.assert_close(unit(vectors), expected)


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_null_vector_stays_exactly_null(dtype):
    noise = torch.full((2, 4), NULL / 10, dtype=dtype)
    assert torch.equal(unit(noise), torch.zeros(2, 4, dtype=dtype))


@pytest.mark.parametrize("dtype", FORMATS)
def test_just_above_null_has_length_one(dtype):
    vector = torch.tensor([[NULL * 2, 0.0]], dtype=dtype)
    torch.testing.assert_close(unit(vector), torch.tensor([[1.0, 0.0]], dtype=dtype))


def test_nan_does_not_pass_for_null():
    assert unit(torch.tensor([[float("nan"), 1.0]])).isnan().all()


def test_unit_works_along_the_last_dimension():
    vectors = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit(vectors).norm(dim=-1), torch.ones(2, 3))


@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3))
def test_unit_forgets_the_length(seed, factor):
    vectors = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(unit(vectors * factor), unit(vectors))


def test_basis_of_one_direction_by_hand():
    basis = orthonormal_basis(torch.tensor([[0.0, -5.0, 0.0]]))
    assert basis.shape == (3, 1)
    assert basis.dtype == torch.float64
    torch.testing.assert_close(basis.abs(), torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64))


def test_repeated_sentences_are_one_direction():
    row = torch.tensor([[1.0, 2.0, 3.0]])
    assert orthonormal_basis(torch.cat([row, row, 2 * row])).shape == (3, 1)


@pytest.mark.parametrize("rows", [torch.zeros(2, 3), torch.zeros(0, 3), torch.full((1, 3), NULL / 10)])
def test_null_rows_have_no_basis(rows):
    basis = orthonormal_basis(rows)
    assert basis.shape == (3, 0)
    assert basis.dtype == torch.float64


@given(seed=st.integers(0, 10_000), count=st.integers(1, 8), width=st.integers(1, 8))
def test_basis_is_orthonormal_and_spans_the_rows(seed, count, width):
    vectors = torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    basis = orthonormal_basis(vectors)
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1], dtype=torch.float64))
    torch.testing.assert_close(vectors @ basis @ basis.T, vectors)


def mean_of_units_literally(vectors, size):
    """Return the means row by row, without chunks."""
    means = []
    for start in range(0, len(vectors), size):
        total = torch.zeros(vectors.shape[1], dtype=torch.float64)
        for row in vectors[start : start + size].double():
            total += row / row.norm()
        means.append(total / size)
    return torch.stack(means)


@pytest.mark.parametrize("chunk", [1, 6, 7, 11, 12, 13, 24, 59, 60, 1 << 17])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_mean_of_unit_rows_whatever_the_chunks(monkeypatch, chunk, size):
    monkeypatch.setattr(maths_vectors, "CHUNK", chunk)
    vectors = torch.randn(10 * size, 6, generator=torch.Generator().manual_seed(size))
    found = mean_unit_rows(vectors, size)
    torch.testing.assert_close(found, mean_of_units_literally(vectors, size), rtol=1e-12, atol=1e-12)
    assert found.dtype == torch.float64


def test_the_mean_of_unit_rows_weighs_long_and_short_rows_alike():
    found = mean_unit_rows(torch.tensor([[100.0, 0.0], [0.0, 0.1]]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5]], dtype=torch.float64))


def test_a_null_row_adds_nothing_to_the_mean():
    found = mean_unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 2)
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.4]], dtype=torch.float64))


def test_no_rows_have_no_means():
    found = mean_unit_rows(torch.zeros(0, 6), 3)
    assert found.shape == (0, 6)
    assert found.dtype == torch.float64
