"""The measured part of a page: which readings stand in which table, and in which order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.record import SYNTHETIC, Record
from clip_unlearn.report.answers import forgotten_keys
from clip_unlearn.report.comparisons import AVERAGE, Comparison, compare
from clip_unlearn.report.recovered import Recovered, novel, recovered
from clip_unlearn.report.rows import Cell, Row, item_row, total_row
from clip_unlearn.report.words import HINTS

DETAILED: Final = (AVERAGE, SYNTHETIC)
"""Totals that say what they are about, beside the worst of several attempts."""

CHART_LIMIT: Final = 30
"""Bars that are drawn; with more classes the chart shows the most harmed ones, the table all."""


@final
@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of one kind under one heading."""

    title: str
    rows: tuple[Row, ...]

    @property
    def controlled(self) -> bool:
        """Return whether any row has a control."""
        return any(row.control is not None for row in self.rows)


@final
@dataclass(frozen=True, kw_only=True)
class Results:
    """All tables of a page; each may be empty."""

    totals: tuple[Row, ...]
    classes: tuple[Row, ...]
    chart: tuple[Row, ...]
    wordings: tuple[Row, ...]
    attacks: tuple[Row, ...]
    """The worst form of every attack that has a control; the strongest on the edited model first."""

    recovered: tuple[Recovered, ...]
    """What is left beside models that never saw the class; empty where none was given."""

    novel: tuple[tuple[str, Cell], ...]
    """Classes that the original does not know, with how often it names each."""

    groups: tuple[Group, ...]
    """Domains first, then whatever else was measured about something."""

    intervals: tuple[str, ...]
    """How the intervals were made."""

    def total(self, name: str) -> Row | None:
        """Return the total of that name, or None."""
        return next((row for row in self.totals if row.comparison.name == name), None)

    @property
    def tiles(self) -> tuple[Row, ...]:
        """Return the totals that have a meaning known to this report, in its order, one of each name."""
        known = {row.comparison.name: row for row in reversed(self.totals) if row.hint and row.after is not None}
        return tuple(reversed(known.values()))


def results(record: Record) -> Results:
    """Return every reading of the record in its place; of references those that a ratio is made of."""
    compared = compare(record.readings)
    forgotten = forgotten_keys(record)
    classes = _by_harm(item_row(row, forgotten) for row in compared if row.name == "class accuracy" and row.of)
    return Results(
        totals=_totals(compared),
        classes=classes,
        chart=_chart(classes),
        wordings=_by_strength(item_row(row, forgotten) for row in compared if row.name == "name accuracy" and row.of),
        attacks=_by_strength(total_row(row) for row in compared if _is_attack(row)),
        recovered=recovered(record.readings),
        novel=novel(record.readings),
        groups=_groups(compared),
        intervals=tuple(dict.fromkeys(reading.interval for reading in record.readings if reading.interval)),
    )


def _totals(compared: Iterable[Comparison]) -> tuple[Row, ...]:
    """Return the totals in the order of the hints; of several worst wordings, one for each class, the worst first."""
    order = {name: place for place, name in enumerate(HINTS)}
    totals = [row for row in compared if _is_total(row) and not _is_attack(row)]
    return tuple(
        total_row(row) for row in sorted(totals, key=lambda row: (order.get(row.name, len(order)), _rank(row)))
    )


def _rank(row: Comparison) -> float:
    return -(row.after or row.readings[0]).value if row.name.startswith(WORST) else 0.0


def _is_total(row: Comparison) -> bool:
    return not row.of or row.name in DETAILED or row.name.startswith(WORST)


def _is_attack(row: Comparison) -> bool:
    return row.name.startswith(WORST) and row.control is not None


def _by_harm(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the classes to be forgotten, then all others, the largest loss first."""
    return tuple(sorted(rows, key=lambda row: (not row.forgotten, row.comparison.shift)))


def _by_strength(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the wordings, the one that still works best first."""
    return tuple(sorted(rows, key=lambda row: -(row.comparison.after or row.comparison.readings[0]).value))


def _chart(classes: tuple[Row, ...]) -> tuple[Row, ...]:
    forgotten = [row for row in classes if row.forgotten]
    others = [row for row in classes if not row.forgotten]
    room = max(CHART_LIMIT - len(forgotten), CHART_LIMIT // 2)
    return (*forgotten[: CHART_LIMIT - min(room, len(others))], *others[:room])


def _groups(compared: Iterable[Comparison]) -> tuple[Group, ...]:
    rows: dict[str, list[Row]] = {}
    for comparison in compared:
        if not _is_total(comparison) and comparison.name not in {"class accuracy", "name accuracy"}:
            rows.setdefault(comparison.name, []).append(item_row(comparison))
    names = sorted(rows, key=lambda name: not name.startswith("domain"))
    return tuple(Group(title=name[:1].upper() + name[1:], rows=tuple(rows[name])) for name in names)
