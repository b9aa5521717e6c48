"""Grades from readings written down by hand: what each needs, what stops it, and how many images would be needed."""

from typing import Any

import pytest

from clip_unlearn.core.attacks import UNATTACKED
from clip_unlearn.core.grades import (
    FEW_SHOT,
    MECHANISMS,
    RELEARNING,
    WITHOUT_CONTROL,
    WORDS,
    Evidence,
    grade,
    images_needed,
)
from clip_unlearn.core.record import Grade, Reach, Reading
from clip_unlearn.maths.intervals import paired_difference, wilson

DEEP = Reach(towers=("image", "text"), depth="encoder")
ALL = frozenset({*MECHANISMS, *WITHOUT_CONTROL})


def counted(name: str, hits: int, count: int, **rest: Any) -> Reading:
    low, high = wilson(hits, count)
    return Reading(name=name, value=hits / count, low=low, high=high, count=count, better="low", **rest)


def others(lost: int, count: int = 1000) -> Reading:
    low, high = paired_difference(0, lost, count)
    return Reading(
        name="retain accuracy", value=-lost / count, low=low, high=high, count=count, better="high", subject="change"
    )


def prompt(hits: int = 0, count: int = 100, lost: int = 0) -> tuple[Reading, ...]:
    return (counted("forget accuracy", hits, count), others(lost))


def wordings(hits: int = 0, names: int = 20, sentences: int = 10, count: int = 200) -> tuple[Reading, ...]:
    return (
        *(counted("wording accuracy", hits, count, of=f"name {place}") for place in range(names)),
        counted("worst wording accuracy", hits, count, of="name 0", attempts=names * sentences),
    )


def vocabulary(hits: int = 0, sets: int = 3, count: int = 200) -> tuple[Reading, ...]:
    return (counted("worst vocabulary accuracy", hits, count, of="10 nouns", attempts=sets),)


def attacks(hits: int = 0, control: int = 200, count: int = 200, forms: int = 9) -> tuple[Reading, ...]:
    found: list[Reading] = []
    for name in (*MECHANISMS, *WITHOUT_CONTROL):
        found += [
            counted(f"worst {name}", count, count, subject="before", of=UNATTACKED),
            counted(f"worst {name}", control, count, subject="control", attempts=forms),
            counted(f"worst {name}", hits, count, attempts=forms),
        ]
    return tuple(found)


def graded(*readings: Reading, reach: Reach = DEEP, qualified: frozenset[str] = ALL) -> Grade:
    return grade(Evidence(readings=readings, reach=reach, qualified=qualified))


def why(found: Grade, what: str) -> str:
    (line,) = (line for line in found.lines if line.what == what)
    return line.why


def test_each_grade_at_its_least() -> None:
    assert graded(*prompt()).grade == "F1"
    assert graded(*prompt(), *wordings(), *vocabulary()).grade == "F2"
    found = graded(*prompt(), *wordings(), *vocabulary(), *attacks())
    assert (found.grade, found.words) == ("F3", WORDS["F3"])
    assert all(line.passed for line in found.lines if line.grade != "F4")
    found = graded(*prompt(), *wordings(), *vocabulary(), *attacks(), *taught())
    assert (found.grade, found.words, found.ceiling) == ("F4", WORDS["F4"], "F4")
    assert all(line.passed for line in found.lines)
    assert "lab" in found.why


@pytest.mark.parametrize(("hits", "count"), [(100, 100), (15, 100), (8, 34)])
def test_what_is_shown_to_be_recognised_is_not_forgotten(hits: int, count: int) -> None:
    found = graded(*prompt(hits, count), *wordings(), *vocabulary(), *attacks())
    assert (found.grade, found.words) == ("F0", "not forgotten")


def test_too_few_images_are_inconclusive_and_say_how_many_are_needed() -> None:
    found = graded(*prompt(count=34))
    assert found.grade == "inconclusive"
    assert why(found, "the tested prompt") == ("0.0% of 34 images, upper end 12.9%, at most 5%; 100 images are needed")
    assert "images are needed" in why(graded(*prompt(3, 100)), "the tested prompt")


def test_nothing_measured_shows_nothing() -> None:
    found = graded()
    assert found.grade == "inconclusive"
    assert not any(line.passed for line in found.lines)


def test_other_classes_may_lose_two_points() -> None:
    assert graded(*prompt(lost=10)).grade == "F1"
    found = graded(*prompt(lost=15))
    assert found.grade == "inconclusive"
    assert "at least -2" in why(found, "the other classes")


@pytest.mark.parametrize(("names", "sentences"), [(19, 10), (20, 9)])
def test_few_wordings_are_no_sweep(names: int, sentences: int) -> None:
    found = graded(*prompt(), *wordings(names=names, sentences=sentences), *vocabulary())
    assert found.grade == "F1"
    assert f"{names} names in {sentences} sentences" in why(found, "other wordings")


def test_one_wording_that_works_or_one_set_too_few_stops_at_f1() -> None:
    assert graded(*prompt(), *wordings(hits=10), *vocabulary()).grade == "F1"
    assert graded(*prompt(), *wordings(), *vocabulary(hits=15)).grade == "F1"
    assert graded(*prompt(), *wordings(), *vocabulary(sets=2)).grade == "F1"


def test_many_attempts_widen_what_one_image_shows() -> None:
    assert graded(*prompt(), *wordings(hits=4), *vocabulary()).grade == "F2"
    assert graded(*prompt(), *wordings(hits=4, names=200, sentences=50), *vocabulary()).grade == "F1"


@pytest.mark.parametrize("name", [*MECHANISMS, *WITHOUT_CONTROL])
def test_one_attack_that_brings_it_back_stops_at_f2(name: str) -> None:
    rest = [one for one in attacks() if one.name != f"worst {name}" or one.subject != "after"]
    back = counted(f"worst {name}", 150, 200, attempts=9)
    assert graded(*prompt(), *wordings(), *vocabulary(), *rest, back).grade == "F2"
    assert graded(*prompt(), *wordings(), *vocabulary(), *rest).grade == "F2"


@pytest.mark.parametrize("name", MECHANISMS)
def test_an_attack_without_power_shows_nothing(name: str) -> None:
    weak = [one for one in attacks(control=0) if one.name == f"worst {name}"]
    rest = [one for one in attacks() if one.name != f"worst {name}"]
    found = graded(*prompt(), *wordings(), *vocabulary(), *rest, *weak)
    assert found.grade == "F2"
    assert "without power" in why(found, f"attack: {name.removesuffix(' accuracy')}")


def test_an_attack_that_is_not_validated_counts_for_nothing() -> None:
    found = graded(*prompt(), *wordings(), *vocabulary(), *attacks(), qualified=ALL - {"rounding accuracy"})
    assert found.grade == "F2"
    assert "descriptive only" in why(found, "attack: rounding")
    assert grade(Evidence(readings=(*prompt(), *wordings(), *vocabulary(), *attacks()), reach=DEEP)).grade == "F3"


def test_an_edit_of_the_last_layer_ends_at_f2_whatever_was_measured() -> None:
    shallow = Reach(towers=("image",), depth="readout", invertible=True)
    found = graded(*prompt(), *wordings(), *vocabulary(), *attacks(), reach=shallow)
    assert (found.grade, found.ceiling) == ("F2", "F2")
    assert "last layer" in found.why


def test_how_many_images_are_needed() -> None:
    assert images_needed(0.0, 0.05) == 73
    assert images_needed(0.0, 0.02) == 189
    assert images_needed(0.05, 0.05) is None
    assert images_needed(0.0499999, 0.05) is None
    for share in (0.01, 0.03):
        needed = images_needed(share, 0.05)
        assert needed is not None
        assert wilson(share * needed, needed)[1] <= 0.05 < wilson(share * (needed - 1), needed - 1)[1]


def test_of_several_classes_the_worst_attack_counts() -> None:
    again = [counted("worst image refit accuracy", 200, 200, attempts=9)]
    assert graded(*prompt(), *wordings(), *vocabulary(), *attacks(), *again).grade == "F2"


def ratio(of: str, high: float) -> Reading:
    return Reading(name="recovery ratio", value=high - 0.05, low=0, high=high, count=200, better="low", of=of)


@pytest.mark.parametrize(("high", "reached"), [(0.15, "F3"), (0.16, "F2")])
def test_what_a_model_that_never_saw_it_has_too_is_no_trace(high: float, reached: str) -> None:
    """An attack brings back a fifth here, and as much of a model that never saw the class."""
    names = [*MECHANISMS, *WITHOUT_CONTROL]
    found = graded(*prompt(), *wordings(), *vocabulary(), *attacks(hits=40), *(ratio(name, high) for name in names))
    assert found.grade == reached
    assert f"or recovery ratio {high - 0.05:.2f}, upper end {high:.2f}" in why(found, "attack: rounding")


def test_wordings_too_are_held_against_a_reference() -> None:
    found = graded(*prompt(), *wordings(hits=60), *vocabulary(), ratio("wording accuracy", 0.1))
    assert found.grade == "F2"
    assert graded(*prompt(), *wordings(hits=60), *vocabulary()).grade == "F1"


def few(name: str, hits: int, count: int = 200) -> tuple[Reading, ...]:
    """Return what an attack that is shown the class brings back, of the edited model and of two references."""
    references = (
        counted(name, hits, count, subject="reference", of=f"model {place}") for place, hits in enumerate((90, 110))
    )
    return (counted(name, hits, count), *references)


def index(name: str, value: float) -> Reading:
    low, high = 0.4 * value, 2.5 * value
    rest = {"low": low, "high": high, "count": 3, "better": "neither", "of": name}
    return Reading(name="anamnesis index", value=value, **rest)


def taught(without: str = "") -> tuple[Reading, ...]:
    """Return all that F4 needs beyond F3 at its least, without that of one name."""
    shown = [reading for name in FEW_SHOT if name != without for reading in (*few(name, 100), ratio(name, 0.25))]
    return (
        *shown,
        *(index(name, value) for name, value in zip(RELEARNING, (0.5, 2.0), strict=True) if name != without),
    )


def graded_f4(*readings: Reading, reach: Reach = DEEP) -> Grade:
    return graded(*prompt(), *wordings(), *vocabulary(), *attacks(), *readings, reach=reach)


@pytest.mark.parametrize("name", FEW_SHOT)
def test_one_attack_that_is_shown_the_class_stops_at_f3(name: str) -> None:
    what = f"few images: {name}"
    assert (missing := graded_f4(*taught(name))).grade == "F3"
    assert why(missing, what) == "was not made"
    alone = graded_f4(*taught(name), few(name, 100)[0], ratio(name, 0.2))
    assert (alone.grade, why(alone, what)) == ("F3", "no reference was measured")
    above = graded_f4(*taught(name), *few(name, 100), ratio(name, 0.26))
    assert above.grade == "F3"
    assert why(above, what) == "recovery ratio 0.21, upper end 0.26, at most 0.25"


@pytest.mark.parametrize("name", FEW_SHOT)
@pytest.mark.parametrize(("hits", "reached"), [(110, "F4"), (118, "F3"), (0, "F4")])
def test_where_the_reference_is_too_close_none_may_be_above_it(name: str, hits: int, reached: str) -> None:
    """The references have 45 and 55 %, their upper ends are 51.9 and 61.7 %."""
    found = graded_f4(*taught(name), *few(name, hits))
    assert found.grade == reached
    words = f"reference too close for a ratio: {hits / 2:.1f}%, of the reference 50.0%, upper end 56.8%, at most that"
    assert why(found, f"few images: {name}") == words


@pytest.mark.parametrize("name", RELEARNING)
@pytest.mark.parametrize(("value", "reached"), [(0.49, "F3"), (0.5, "F4"), (2.0, "F4"), (2.01, "F3")])
def test_the_class_is_learned_again_about_as_soon_as_by_a_reference(name: str, value: float, reached: str) -> None:
    found = graded_f4(*taught(name), index(name, value))
    assert found.grade == reached
    words = f"anamnesis index {value:.2f}, from {0.4 * value:.2f} to {2.5 * value:.2f}, wanted 0.5 to 2.0"
    assert why(found, f"learned again: {name}") == words


@pytest.mark.parametrize("name", RELEARNING)
def test_without_an_index_it_stops_at_f3(name: str) -> None:
    assert (found := graded_f4(*taught(name))).grade == "F3"
    assert "no index" in why(found, f"learned again: {name}")


def test_f4_needs_all_below_it_and_no_edit_of_the_last_layer_has_it() -> None:
    shallow = Reach(towers=("image",), depth="readout", invertible=True)
    assert graded_f4(*taught(), reach=shallow).grade == "F2"
    assert graded(*prompt(), *wordings(), *vocabulary(), *taught()).grade == "F2"
