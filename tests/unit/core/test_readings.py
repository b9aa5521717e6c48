"""Differences of shares of separate items."""

import pytest
import torch

from clip_unlearn.core.readings import difference, share
from clip_unlearn.maths.intervals import independent_difference


def hits(right: int, count: int) -> torch.Tensor:
    return torch.arange(count) < right


def test_a_difference_is_the_first_less_the_second() -> None:
    found = difference("apart", [share("own", hits(1, 8), "low")], [share("real", hits(18, 40), "low")])
    assert found.value == pytest.approx(0.125 - 0.45)
    assert (found.low, found.high) == independent_difference((1, 8), (18, 40))
    assert (found.count, found.better, found.subject) == (8, "neither", "change")


def test_groups_are_pooled_by_their_counts() -> None:
    groups = [share("own", hits(1, 8), "low", of="mug"), share("own", hits(3, 4), "low", of="cat")]
    whole = [share("own", hits(4, 12), "low")]
    real = [share("real", hits(0, 5), "low")]
    assert difference("apart", groups, real) == difference("apart", whole, real)
