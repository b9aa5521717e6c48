"""What a look found: shares, their balance, and which of two marks is better."""

import hypothesis
import pytest
from hypothesis import strategies

from clip_unlearn.core.marks import Mark
from clip_unlearn.maths.intervals import wilson


def mark(forget: tuple[int, int], retain: tuple[int, int], probability: float = 0.5) -> Mark:
    return Mark(
        forget_hits=forget[0],
        forget_count=forget[1],
        retain_hits=retain[0],
        retain_count=retain[1],
        forget_probability=probability,
    )


def test_shares():
    found = mark((3, 4), (9, 10))
    assert found.forget_accuracy == 0.75
    assert found.retain_accuracy == 0.9
    assert mark((0, 4), (0, 0)).retain_accuracy == 1.0


@pytest.mark.parametrize(
    ("forget", "retain", "balance"),
    [
        ((0, 4), (10, 10), 1.0),
        ((0, 4), (5, 10), 2 / 3),
        ((2, 4), (5, 10), 0.5),
        ((3, 4), (10, 10), 0.4),
        ((4, 4), (10, 10), 0.0),
        ((0, 4), (0, 10), 0.0),
        ((4, 4), (0, 10), 0.0),
        ((1, 4), (0, 0), 6 / 7),
    ],
)
def test_the_balance_is_the_harmonic_mean(forget, retain, balance):
    assert mark(forget, retain).balance == pytest.approx(balance, abs=1e-12)


@hypothesis.given(gone=strategies.integers(0, 20), kept=strategies.integers(0, 20))
def test_the_balance_is_between_its_parts(gone, kept):
    """And twice their product over their sum, whichever of them is which."""
    found = mark((20 - gone, 20), (kept, 20)).balance
    assert found == pytest.approx(mark((20 - kept, 20), (gone, 20)).balance, abs=1e-12)
    assert min(gone, kept) / 20 - 1e-12 <= found <= max(gone, kept) / 20 + 1e-12
    if gone and kept:
        assert 2 / found == pytest.approx(20 / gone + 20 / kept)


def test_what_is_better():
    """The balance first; between equal ones the smaller probability of what is forgotten."""
    worse, better = mark((2, 4), (9, 10), 0.1), mark((1, 4), (9, 10), 0.9)
    assert better.order > worse.order
    assert mark((1, 4), (9, 10), 0.2).order > mark((1, 4), (9, 10), 0.3).order
    assert mark((1, 4), (8, 10), 0.2).order < mark((1, 4), (9, 10), 0.3).order
    assert mark((1, 4), (9, 10), 0.2).order == mark((1, 4), (9, 10), 0.2).order


def test_readings_are_the_counted_shares():
    forget, retain = mark((1, 4), (9, 10)).readings("after")
    assert (forget.name, forget.value, forget.count, forget.better) == ("stop-set forget accuracy", 0.25, 4, "low")
    assert (retain.name, retain.value, retain.count, retain.better) == ("stop-set retain accuracy", 0.9, 10, "high")
    assert (forget.low, forget.high) == pytest.approx(wilson(1, 4))
    assert (retain.low, retain.high) == pytest.approx(wilson(9, 10))
    assert {one.subject for one in mark((1, 4), (9, 10)).readings("before")} == {"before"}
    assert [one.name for one in mark((1, 4), (0, 0)).readings("after")] == ["stop-set forget accuracy"]
