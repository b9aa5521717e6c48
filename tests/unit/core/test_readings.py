"""Differences of shares of separate items, and parts of successes."""

import pytest
import torch

from clip_unlearn.core.readings import difference, parts, share
from clip_unlearn.maths.intervals import independent_difference, paired_difference, wilson


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


def test_parts_of_a_success_have_the_intervals_of_shares() -> None:
    before, after = torch.tensor([0.5, 1.0, 0.2, 0.0]), torch.tensor([0.25, 1.0, 0.6, 0.0])
    was, now, moved = parts("recall", before, after, "low")
    assert (was.subject, now.subject, moved.subject) == ("before", "after", "change")
    assert was.value == pytest.approx(1.7 / 4)
    assert (was.low, was.high) == pytest.approx(wilson(1.7, 4))
    assert (now.low, now.high) == pytest.approx(wilson(1.85, 4))
    assert moved.value == pytest.approx(0.15 / 4)
    assert (moved.low, moved.high) == pytest.approx(paired_difference(0.4, 0.25, 4))
    assert {one.count for one in (was, now, moved)} == {4}


def test_whole_parts_are_shares_and_equal_ones_have_a_width() -> None:
    whole = parts("recall", hits(2, 6).float(), hits(5, 6).float(), "high")
    assert (whole[1].low, whole[1].high) == wilson(5, 6)
    assert (whole[2].low, whole[2].high) == paired_difference(3, 0, 6)
    alike = parts("recall", torch.ones(5), torch.ones(5), "high")
    assert alike[1].low < alike[1].high == 1.0
    assert alike[2].low < alike[2].value < alike[2].high
