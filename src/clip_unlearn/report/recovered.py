"""What an edit leaves beside what models have that never saw the class: one row for every recovery ratio."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.record import NOVEL, NOVEL_ACCURACY, Reading, Subject
from clip_unlearn.core.recovery import RATIO
from clip_unlearn.report import numbers
from clip_unlearn.report.rows import Cell


@final
@dataclass(frozen=True, kw_only=True)
class Recovered:
    """One attack on the edited model, on models that never saw the class, and on the original."""

    label: str
    after: Cell
    never: tuple[Cell, ...]
    """One for each reference, in the order given."""

    held: Cell
    """Of the original, or of the control under the attack where that has more."""

    ratio: Cell


def recovered(readings: Sequence[Reading]) -> tuple[Recovered, ...]:
    """Return the rows, the largest ratio first."""
    return tuple(_row(one, readings) for one in sorted(readings, key=lambda one: -one.value) if one.name == RATIO)


def novel(readings: Sequence[Reading]) -> tuple[tuple[str, Cell], ...]:
    """Return the classes that the original does not know, with how often it names each."""
    found = (one for one in readings if one.name == NOVEL_ACCURACY)
    return tuple((one.of.removeprefix(NOVEL), _cell(one)) for one in found)


def _row(ratio: Reading, readings: Sequence[Reading]) -> Recovered:
    names = (f"{WORST}{ratio.of}", ratio.of)

    def cells(*subjects: Subject) -> Iterator[tuple[float, Cell]]:
        name = next(name for name in names if any(one.name == name for one in readings))
        for one in readings:
            if one.name == name and one.subject in subjects:
                yield one.value, _cell(one)

    return Recovered(
        label=ratio.of[:1].upper() + ratio.of[1:],
        after=max(cells("after"), key=lambda one: one[0])[1],
        never=tuple(cell for _, cell in cells("reference")),
        held=max(cells("before", "control"), key=lambda one: one[0])[1],
        ratio=Cell(value=f"{ratio.value:.2f}", interval=f"({ratio.low:.2f} to {ratio.high:.2f})"),
    )


def _cell(reading: Reading) -> Cell:
    return Cell(value=numbers.level(reading, "percent"), interval=numbers.level_interval(reading, "percent"))
