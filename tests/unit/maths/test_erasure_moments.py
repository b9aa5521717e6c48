"""Moments of labelled features: batches make a whole."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from clip_unlearn.maths.erasure import Moments

WIDTH, COUNT = 6, 120
seeds = st.integers(0, 10_000)


def labelled(seed: int) -> tuple[Tensor, Tensor]:
    """Return features whose mean depends on the label, and one-hot labels of two classes beside a rest."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(COUNT) % 3
    means = torch.randn(3, WIDTH, generator=generator, dtype=torch.float64)
    noise = torch.randn(COUNT, WIDTH, generator=generator, dtype=torch.float64)
    return noise + 2 * means[classes] + 3.0, torch.eye(3, dtype=torch.float64)[classes][:, :2]


def moments_of(features: Tensor, labels: Tensor) -> Moments:
    return Moments.empty(features.shape[1], labels.shape[1]).add(features, labels)


@given(seed=seeds, cuts=st.lists(st.integers(0, 120), max_size=5))
def test_batches_in_any_order_give_the_same_moments(seed, cuts):
    features, marks = labelled(seed)
    features = features + 1e4  # far from 0 against the spread: sums of squares would lose eight digits here
    bounds = [0, *sorted(cuts), len(features)]
    batches = [slice(start, end) for start, end in pairwise(bounds)]
    whole = moments_of(features, marks)
    for order in (batches, batches[::-1]):
        moments = Moments.empty(WIDTH, 2)
        for batch in order:
            moments = moments.add(features[batch].clone(), marks[batch])
        assert moments.count == whole.count == 120
        for name in ("feature_mean", "label_mean", "scatter", "shared", "label_scatter"):
            torch.testing.assert_close(getattr(moments, name), getattr(whole, name), rtol=1e-8, atol=1e-6)


def test_moments_are_those_of_the_library():
    features, marks = labelled(12)
    moments = moments_of(features[:50], marks[:50]).add(features[50:], marks[50:])
    both = torch.cat([features, marks], dim=1).T.cov(correction=0) * 120
    torch.testing.assert_close(moments.scatter, both[:WIDTH, :WIDTH], rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(moments.shared, both[:WIDTH, WIDTH:], rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(moments.label_scatter, both.diag()[WIDTH:], rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(moments.feature_mean, features.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moments.label_mean, marks.mean(0), rtol=1e-12, atol=1e-12)


def test_an_empty_batch_adds_nothing_and_an_odd_one_is_refused():
    moments = moments_of(*labelled(13))
    assert moments.add(torch.zeros(0, WIDTH), torch.zeros(0, 2)) is moments
    with pytest.raises(ValueError, match="3 features and 2 labels"):
        moments.add(torch.zeros(3, WIDTH), torch.zeros(2, 2))
