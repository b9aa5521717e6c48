"""Put records side by side: which method forgets more and keeps more, with p-values for all differences at once."""

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, final

from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.config import Config
from clip_unlearn.core.record import Reading, Record
from clip_unlearn.core.request import key
from clip_unlearn.errors import DataError
from clip_unlearn.maths.intervals import independent_difference, mean_interval
from clip_unlearn.maths.tests import fisher, holm, signed_rank

BY_CLASS: Final = "class accuracy"
SEPARATE: Final = "images, as if they were separate"
"""Records keep counts and not which image was right, so that images cannot be paired after the fact."""


@final
class Difference(Config):
    """One measured number in two records, the second less the first."""

    name: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    """Ends of the 95 % interval of the difference."""

    p_value: float
    """Two-sided, for this difference alone; NaN where none can be made."""

    adjusted: float
    """For all differences of this comparison at once, by Holm."""

    unit: str
    """What the test is over."""


@final
class Compared(Config):
    """A record against the first one."""

    first: str
    second: str
    differences: tuple[Difference, ...]


def load_record(where: Path) -> Record:
    """Return the record in a file, or in the folder of a run.

    Raises:
        DataError: if there is none.
    """
    return Record.load(where / "record.json" if where.is_dir() else where)


def compare_records(first: Record, second: Record, *, names: tuple[str, str]) -> Compared:
    """Return the differences of two records of the same request on the same data.

    Forgotten classes by their images, with Newcombe's interval and Fisher's exact test as if the images were separate
    ones, which is on the safe side. Other classes paired by class: mean difference with Student's interval, Wilcoxon's
    signed ranks. Holm over all of them.

    Raises:
        DataError: if they measured other data or were to forget something else.
    """
    _check(first, second, names)
    found = [*_shares(first, second), *_classes(first, second)]
    adjusted = holm([one.p_value for one in found])
    return Compared(
        first=names[0],
        second=names[1],
        differences=tuple(
            one.model_copy(update={"adjusted": value}) for one, value in zip(found, adjusted, strict=True)
        ),
    )


def _check(first: Record, second: Record, names: tuple[str, str]) -> None:
    digests = [record.data.digest if record.data else "" for record in (first, second)]
    if digests[0] != digests[1]:
        raise DataError(f"{names[0]} and {names[1]} measured other images. Compare records of the same data.")
    forgotten = [{key(name) for name in record.origin.request.forget_names} for record in (first, second)]
    if forgotten[0] != forgotten[1]:
        raise DataError(f"{names[0]} and {names[1]} forget other names. Compare records of the same request.")


def _shares(first: Record, second: Record) -> Iterator[Difference]:
    """Yield the differences of shares of images that both records have: what is to be forgotten, and attacks."""
    ours, theirs = _by_name(first), _by_name(second)
    for name in (one for one in ours if one in theirs):
        pair = [(round(each.value * each.count), each.count) for each in (ours[name], theirs[name])]
        ends = independent_difference(pair[1], pair[0])
        yield _difference(ours[name], theirs[name].value, ends, fisher(pair[0], pair[1]), SEPARATE)


def _by_name(record: Record) -> dict[str, Reading]:
    """Return the shares of images of what was to be forgotten, and of several classes the largest of each name."""
    chosen = [
        one
        for one in record.readings
        if one.subject == "after" and (one.name == "forget accuracy" or one.name.startswith(WORST))
    ]
    return {one.name: one for one in sorted(chosen, key=lambda one: one.value)}


def _classes(first: Record, second: Record) -> Iterator[Difference]:
    forgotten = {key(name) for name in first.origin.request.forget_names}
    one, other = ({r.of: r.value for r in each.readings if _of_class(r, forgotten)} for each in (first, second))
    shared = [name for name in one if name in other]
    if len(shared) < 2:
        return
    moved = [other[name] - one[name] for name in shared]
    means = [sum(each[name] for name in shared) / len(shared) for each in (one, other)]
    reading = Reading(
        name="mean accuracy of the other classes",
        value=means[0],
        low=math.nan,
        high=math.nan,
        count=len(shared),
        better="high",
    )
    yield _difference(reading, means[1], mean_interval(moved), signed_rank(moved), f"{len(shared)} classes, paired")


def _of_class(reading: Reading, forgotten: Collection[str]) -> bool:
    return (reading.name, reading.subject) == (BY_CLASS, "after") and key(reading.of) not in forgotten


def _difference(one: Reading, second: float, ends: tuple[float, float], p_value: float, unit: str) -> Difference:
    return Difference(
        name=one.name,
        first=one.value,
        second=second,
        difference=second - one.value,
        low=ends[0],
        high=ends[1],
        p_value=p_value,
        adjusted=math.nan,
        unit=unit,
    )
