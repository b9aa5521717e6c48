"""Records side by side: counted by hand, and refused where they do not belong together."""

from typing import Any

import pytest

from clip_unlearn.core.record import Environment, Origin, Reading, Record, Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError
from clip_unlearn.maths.intervals import independent_difference, mean_interval
from clip_unlearn.runs.compare import SEPARATE, Compared, compare_records

CLASSES = {"mug": 0.0, "bowl": 0.9, "cat": 0.8, "car": 0.7, "hat": 1.0, "axe": 0.9, "bus": 0.6}


def reading(name: str, value: float, count: int = 100, **rest: Any) -> Reading:
    return Reading(name=name, value=value, low=0, high=1, count=count, better="low", **rest)


def record(*readings: Reading, forget: str = "mug", data: str = "abc") -> Record:
    request = Request(forget=(Concept(name=forget),), retain=("bowl",))
    origin = Origin(method="x", settings={}, request=request, base=Source(where="m"), version="0")
    return Record(
        created="",
        command="",
        origin=origin,
        after=Source(where="m"),
        data=Source(where="d", digest=data),
        portable=True,
        seconds={},
        environment=Environment(package="0", python="3", libraries={}, machine="", threads=1, device="cpu"),
        readings=readings,
    )


def classes(change: float = 0.0) -> list[Reading]:
    return [
        reading("class accuracy", value if name == "mug" else value + change * place, of=name)
        for place, (name, value) in enumerate(CLASSES.items())
    ]


def compared(first: Record, second: Record) -> Compared:
    return compare_records(first, second, names=("a", "b"))


def test_forgotten_images_and_other_classes() -> None:
    first = record(reading("forget accuracy", 0.5), *classes())
    second = record(reading("forget accuracy", 0.1), *classes(-0.01))
    forget, others = compared(first, second).differences
    assert (forget.first, forget.second, forget.unit) == (0.5, 0.1, SEPARATE)
    assert (forget.low, forget.high) == independent_difference((10, 100), (50, 100))
    assert forget.p_value < 1e-8
    moved = [-0.01 * place for place in range(1, 7)]
    assert others.difference == pytest.approx(sum(moved) / 6)
    assert (others.low, others.high) == pytest.approx(mean_interval(moved))
    assert (others.p_value, others.unit) == (pytest.approx(2 / 2**6), "6 classes, paired")
    assert (forget.adjusted, others.adjusted) == pytest.approx((2 * forget.p_value, others.p_value))


def test_the_worst_form_is_compared_whatever_form_it_is() -> None:
    name = "worst image refit accuracy"
    both = (
        record(reading(name, 1.0, of="a"), reading(name, 0.2, of="b")),
        record(reading(name, 0.3, of="c"), reading("image refit accuracy", 0.3, of="c")),
    )
    (found,) = compared(*both).differences
    assert (found.first, found.second) == (1.0, 0.3)


def test_what_only_one_has_is_left_out() -> None:
    assert compared(record(reading("forget accuracy", 0.5)), record()).differences == ()


@pytest.mark.parametrize(
    ("other", "message"),
    [({"data": "other"}, "other images"), ({"forget": "cat"}, "forget other names")],
)
def test_records_that_do_not_belong_together(other: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compared(record(), record(**other))
