"""Rows of the tables: one comparison each, as texts that a template prints without further thought."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import final

from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import key
from clip_unlearn.report import numbers
from clip_unlearn.report.comparisons import Comparison, Unit
from clip_unlearn.report.words import HINTS


@final
@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number and its interval, "" where there is none."""

    value: str
    interval: str

    def __str__(self) -> str:
        return f"{self.value} {self.interval}".rstrip()


@final
@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison in words; a cell is None where nothing was measured."""

    comparison: Comparison
    label: str
    hint: str
    before: Cell | None
    after: Cell | None
    change: Cell | None
    control: Cell | None
    p_value: str
    count: str
    forgotten: bool = False
    """Whether it is about something that was to be forgotten."""

    @property
    def verdict(self) -> str:
        """Return what the change means, see `Comparison.verdict`."""
        return self.comparison.verdict

    @property
    def description(self) -> str:
        """Return the row as one line for readers that do not see the chart."""
        return f"{self.label}: before {self.before or 'not measured'}, after {self.after or 'not measured'}"


def total_row(comparison: Comparison) -> Row:
    """Return the row of a total, labelled by what was measured, and by the wording where it is about one."""
    title = comparison.name[:1].upper() + comparison.name[1:]
    label = f"{title}: {comparison.of}" if comparison.of else title
    return _row(comparison, label=label, hint=HINTS.get(comparison.name, ""))


def item_row(comparison: Comparison, forgotten: Collection[str] = ()) -> Row:
    """Return the row of one class, domain or wording, labelled by it; `forgotten` holds keys of names."""
    return _row(comparison, label=comparison.of, forgotten=key(comparison.of) in forgotten)


def _row(comparison: Comparison, *, label: str, hint: str = "", forgotten: bool = False) -> Row:
    unit, change = comparison.unit, comparison.change
    return Row(
        comparison=comparison,
        label=label,
        hint=hint,
        before=_cell(comparison.before, unit, numbers.level, numbers.level_interval),
        after=_cell(comparison.after, unit, numbers.level, numbers.level_interval),
        change=_cell(change, unit, numbers.change, numbers.change_interval),
        control=_cell(comparison.control, unit, numbers.level, numbers.level_interval),
        p_value=numbers.probability(None if change is None else change.p_value),
        count=numbers.whole(comparison.count),
        forgotten=forgotten,
    )


def _cell(
    reading: Reading | None,
    unit: Unit,
    value: Callable[[Reading, Unit], str],
    interval: Callable[[Reading, Unit], str],
) -> Cell | None:
    return None if reading is None else Cell(value=value(reading, unit), interval=interval(reading, unit))
