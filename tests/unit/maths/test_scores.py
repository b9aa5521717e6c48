"""Scores and ranks, each against a slow obvious formula."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from clip_unlearn.maths.scores import class_means, cosines, ranks

NAN = float("nan")


def test_cosines_by_hand():
    images, texts = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [5.0, 0.0]])
    half = 0.5**0.5
    torch.testing.assert_close(cosines(images, texts), torch.tensor([[0.0, 1.0], [half, half]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_null_image_scores_nothing_with_everything(dtype):
    images = torch.zeros(1, 3, dtype=dtype)
    texts = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(cosines(images, texts), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("scores", "place"),
    [
        ([0.9, 0.1, 0.5], 1),
        ([0.1, 0.9, 0.5], 3),
        ([0.5, 0.5, 0.1], 2),
        ([0.0, 0.0, 0.0], 3),
        ([NAN, NAN, NAN], 3),
        ([0.5, NAN, 0.1], 2),
        ([NAN, 0.2, 0.1], 3),
    ],
)
def test_ties_and_nan_count_against_the_class(scores, place):
    assert ranks(torch.tensor([scores]), torch.tensor([0])).tolist() == [place]


@given(data=st.data(), count=st.integers(1, 6), classes=st.integers(1, 6))
def test_ranks_against_counting(data, count, classes):
    levels = st.lists(st.integers(-2, 2), min_size=classes, max_size=classes)
    rows = data.draw(st.lists(levels, min_size=count, max_size=count))
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    expected = [
        1 + sum(score >= row[label] for other, score in enumerate(row) if other != label)
        for row, label in zip(rows, labels, strict=True)
    ]
    assert ranks(torch.tensor(rows, dtype=torch.float32), torch.tensor(labels)).tolist() == expected


def test_class_means_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 7.0]], dtype=torch.float64)
    means = class_means(vectors, torch.tensor([0, 0, 2]), 3)
    assert means.dtype == torch.float64
    assert means.tolist() == [[2.0, 0.0], [0.0, 0.0], [0.0, 7.0]]
