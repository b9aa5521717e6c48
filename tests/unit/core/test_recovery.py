"""Recovery ratios from shares written down by hand, and how often their intervals hold the truth."""

import numpy as np
import pytest

from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.recovery import RATIO, recovery_ratios
from clip_unlearn.maths.intervals import wilson

NAME = "worst trick accuracy"


def share(hits: int, count: int, subject: Subject, name: str = NAME, of: str = "") -> Reading:
    low, high = wilson(hits, count)
    return Reading(name=name, value=hits / count, low=low, high=high, count=count, better="low", subject=subject, of=of)


def sides(before: int, edited: int, *references: int, count: int = 100, name: str = NAME) -> list[Reading]:
    return [
        share(before, count, "before", name),
        share(edited, count, "after", name),
        *(share(hits, count, "reference", name, of=f"model {place}") for place, hits in enumerate(references)),
    ]


def test_a_ratio_by_hand() -> None:
    """(30 - 10) / (90 - 10) = 1/4, the references having 5 and 15."""
    (ratio,), without = recovery_ratios(sides(90, 30, 5, 15))
    assert (ratio.name, ratio.of, ratio.count, without) == (RATIO, "trick accuracy", 100, ())
    assert ratio.value == pytest.approx(0.25)
    assert 0.05 < ratio.low < 0.25 < ratio.high < 0.45


def test_the_original_is_what_the_attack_brings_back_of_the_control() -> None:
    found = [*sides(40, 10, 0), share(80, 100, "control")]
    (ratio,), _ = recovery_ratios(found)
    assert ratio.value == pytest.approx(1 / 8)


def test_no_edit_and_no_trace_have_intervals_too() -> None:
    (kept,), _ = recovery_ratios(sides(100, 100, 0))
    (gone,), _ = recovery_ratios(sides(100, 0, 0))
    assert (kept.value, gone.value) == (1, 0)
    assert kept.low < 1
    assert 0 < gone.high < 0.06
    assert gone.low < 0


def test_emptier_than_a_model_that_never_saw_it() -> None:
    (ratio,), _ = recovery_ratios(sides(95, 0, 30))
    assert ratio.value < 0
    assert ratio.high < 0


def test_a_reference_that_is_too_close_gives_no_ratio() -> None:
    found, (without,) = recovery_ratios(sides(99, 97, 92))
    assert found == ()
    assert without.probe == "recovery ratio, trick accuracy"
    assert without.reason == "reference too close: 92.0% of it, 99.0% of the original, 97.0% edited"
    assert recovery_ratios(sides(10, 5, 5, count=20))[0] == ()  # far apart as they stand, not surely


def test_what_has_no_reference_or_is_about_others_has_no_ratio() -> None:
    assert recovery_ratios(sides(90, 10)) == ((), ())
    assert recovery_ratios([share(9, 10, "reference"), share(9, 10, "after")]) == ((), ())
    assert recovery_ratios(sides(90, 10, 5, name="retain accuracy")) == ((), ())
    assert recovery_ratios(sides(90, 10, 5, name="5-shot relearning steps")) == ((), ())
    assert len(recovery_ratios(sides(90, 10, 5, name="1-shot probe accuracy, embedding"))[0]) == 1


def test_attempts_beside_the_worst_have_no_ratio_of_their_own() -> None:
    found, _ = recovery_ratios([*sides(90, 10, 5), *sides(90, 10, 5, name="trick accuracy")])
    assert [one.of for one in found] == ["trick accuracy"]


@pytest.mark.parametrize(("held", "left", "never"), [(0.95, 0.3, 0.1), (0.9, 0.05, 0.05), (0.97, 0.0, 0.0)])
def test_the_interval_holds_the_truth_as_often_as_it_says(held: float, left: float, never: float) -> None:
    random, truth, hits = np.random.default_rng(1), (left - never) / (held - never), 0
    for _ in range(150):
        drawn = [int(random.binomial(100, share)) for share in (held, left, never)]
        (ratio,), _ = recovery_ratios(sides(drawn[0], drawn[1], drawn[2]))
        hits += ratio.low <= truth <= ratio.high
    assert hits >= 135
