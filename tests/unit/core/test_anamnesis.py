"""Anamnesis indices from steps written down by hand."""

import pytest
import torch

from clip_unlearn.core.anamnesis import INDEX, RELEARNED, anamnesis_indices
from clip_unlearn.core.readings import mean, share
from clip_unlearn.core.record import Reading, Subject

NAME = "3-shot relearning steps, all layers"
MOST = 50


def side(subject: Subject, *steps: float, of: str = "", name: str = NAME) -> list[Reading]:
    counted = torch.tensor(steps)
    return [
        mean(name, counted, "high", subject=subject, of=of),
        share(f"{RELEARNED}{name}", counted <= MOST, "neither", subject=subject, of=of),
    ]


def test_an_index_by_hand() -> None:
    """(6 + 10) / 2 over the mean of (18 + 22) / 2 and (10 + 14) / 2 is 8 / 16."""
    (index,), without = anamnesis_indices(
        [*side("after", 6, 10), *side("reference", 18, 22, of="one"), *side("reference", 10, 14, of="two")]
    )
    assert (index.name, index.of, index.count, index.better, without) == (INDEX, NAME, 2, "neither", ())
    assert index.value == pytest.approx(0.5)
    assert index.low < 0.5 < index.high
    assert "2 references" in index.interval


def test_the_interval_grows_with_what_it_is_made_of() -> None:
    def width(*readings: Reading) -> float:
        (index,), _ = anamnesis_indices(readings)
        return index.high - index.low

    steady = width(*side("after", 9, 10, 11), *side("reference", 19, 20, 21))
    assert width(*side("after", 5, 10, 15), *side("reference", 19, 20, 21)) > steady
    assert width(*side("after", 9, 10, 11), *side("reference", 16, 20, 24)) > steady
    apart = (*side("reference", 9, 10, 11, of="one"), *side("reference", 29, 30, 31, of="two"))
    assert width(*side("after", 9, 10, 11), *apart) > 2 * steady


def test_equal_draws_are_still_whole_numbers() -> None:
    (index,), _ = anamnesis_indices([*side("after", 10, 10, 10), *side("reference", 20, 20, 20)])
    assert 0.44 < index.low < 0.5 < index.high < 0.57


def test_no_steps_are_an_index_of_nothing() -> None:
    (index,), without = anamnesis_indices([*side("after", 0, 0, 0), *side("reference", 20, 20, 20)])
    assert (index.value, index.low, without) == (0, 0, ())
    assert 0 < index.high < 0.1


@pytest.mark.parametrize(
    ("after", "reference", "why"),
    [
        ((10, 51), (20, 22), "the edited model did not learn it again in every draw; the index is above 1.45"),
        ((10, 12), (51, 51), "a reference did not learn it again in every draw; the index is below 0.22"),
        ((51, 51), (51, 51), "neither the edited model nor a reference learned it again in every draw"),
        ((10, 12), (0, 0), "a reference needs no steps"),
        ((10,), (20,), "one draw of images has no interval; give more draws"),
    ],
)
def test_what_has_no_index(after: tuple[float, ...], reference: tuple[float, ...], why: str) -> None:
    found, (without,) = anamnesis_indices([*side("after", *after), *side("reference", *reference)])
    assert found == ()
    assert (without.probe, without.reason) == (f"{INDEX}, {NAME}", why)


def test_one_of_several_references_that_is_late_is_enough() -> None:
    found, (without,) = anamnesis_indices(
        [*side("after", 9, 10), *side("reference", 20, 22, of="one"), *side("reference", 51, 20, of="two")]
    )
    assert found == ()
    assert without.reason.startswith("a reference did not")


def test_without_a_reference_or_of_other_readings() -> None:
    assert anamnesis_indices(side("after", 9, 10)) == ((), ())
    assert anamnesis_indices(side("reference", 9, 10)) == ((), ())
    other = [
        *side("after", 9, 10, name="1-shot probe accuracy"),
        *side("reference", 9, 10, name="1-shot probe accuracy"),
    ]
    assert anamnesis_indices(other) == ((), ())
