"""What a terminal shows: tables on stdout, progress and errors on stderr."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from clip_unlearn.core.attacks import WORST, has_power
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.record import Reading
from clip_unlearn.core.recovery import RATIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WAYS = ("image-to-text", "text-to-image")
HEADLINES = (
    "forget accuracy",
    "synthetic forget accuracy",
    "synthetic minus real forget accuracy",
    "retain accuracy",
    "neighbour accuracy",
    *(f"{side} {way} recall@10" for way in WAYS for side in ("forget", "retain")),
    "forget top-5 accuracy",
    "retain top-5 accuracy",
    "worst name accuracy",
    "over-forgetting AUC",
    "average score",
    "image drift",
    "text drift",
    "predicted retain accuracy change",
    "accuracy",
    "top-5 accuracy",
    "mean reciprocal rank",
)
DETAILED = ("worst name accuracy", "synthetic forget accuracy", "average score")
"""Headlines that are totals although they say what they are about."""
QUIET_SECONDS = 2.0


def show(text: str) -> None:
    """Write one line of results to stdout."""
    sys.stdout.write(f"{text}\n")


def show_json(value: object) -> None:
    """Write a result as JSON to stdout."""
    show(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Write one line about the work to stderr."""
    sys.stderr.write(f"{text}\n")


def show_error(message: str) -> None:
    """Write one line that says what is wrong to stderr."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")


def show_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table to stdout; the first column is text, the others are figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120, markup=False).print(table)


def show_texts(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table of texts to stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120, markup=False).print(table)


def show_readings(title: str, readings: Sequence[Reading]) -> None:
    """Write the headline readings as a before/after table."""
    rows = []
    for name in HEADLINES:
        named = [one for one in readings if one.name == name and (not one.of or name in DETAILED)]
        # Several classes to forget have a worst wording each; the last one that stays is the worst of them.
        by_subject = {one.subject: one for one in sorted(named, key=lambda one: one.value)}
        if by_subject:
            rows.append([name, *(_cell(by_subject.get(subject)) for subject in ("before", "after", "change"))])
    if any(row[1] for row in rows):
        show_rows(title, ("", "before", "after", "change"), rows)
    else:
        show_rows(title, ("", "value"), [(row[0], row[2] or row[3]) for row in rows])
    _show_attacks(readings)
    _show_ratios(readings)


def _show_attacks(readings: Sequence[Reading]) -> None:
    """Write the worst form of every attack that has a control, and whether it had power."""
    found: dict[str, dict[str, Reading]] = {}
    for one in readings:
        if one.name.startswith(WORST):
            found.setdefault(one.name.removeprefix(WORST), {})[one.subject] = one
    rows = []
    for name, by_subject in found.items():
        before, control, after = (by_subject.get(subject) for subject in ("before", "control", "after"))
        if before and control and after:
            power = "yes" if has_power(before, control) else "no"
            rows.append([f"{name}: {after.of}", _cell(before), _cell(control), _cell(after), power])
    if rows:
        show_rows("attacks", ("", "original", "control, attacked", "edited, attacked", "power"), rows)


def _show_ratios(readings: Sequence[Reading]) -> None:
    """Write where the edited model stands between models that never saw the class (0) and the original (1)."""
    rows = [
        (one.of, f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})  n={one.count}")
        for one in readings
        if one.name == RATIO
    ]
    if rows:
        show_rows("recovery ratio: 0 as never seen, 1 as the original", ("", "value"), rows)


def _cell(reading: Reading | None) -> str:
    if reading is None:
        return ""
    if any(word in reading.name for word in ("drift", "rank", "score")):
        return f"{reading.value:.3f} ({reading.low:.3f} to {reading.high:.3f})"
    sign = "+" if reading.subject == "change" else ""
    if "AUC" in reading.name:
        return f"{reading.value:{sign}.2f} ({reading.low:{sign}.2f} to {reading.high:{sign}.2f})  n={reading.count}"
    unit, count = (" pt", "") if reading.subject == "change" else (" %", f"  n={reading.count}")
    figures = [100 * number for number in (reading.value, reading.low, reading.high)]
    return f"{figures[0]:{sign}.1f}{unit} ({figures[1]:{sign}.1f} to {figures[2]:{sign}.1f}){count}"


class _Bars:
    """Progress bars that appear only when the work takes longer than two seconds."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def report(self, stage: str, done: int, total: int) -> None:
        """Draw or move the bar of a stage."""
        if self._progress is None:
            if time.perf_counter() - self._started < QUIET_SECONDS:
                return
            self._progress = _new_progress()
            self._progress.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def close(self) -> None:
        """Remove all bars."""
        if self._progress is not None:
            self._progress.stop()


def _new_progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextlib.contextmanager
def progress() -> Iterator[None]:
    """Show progress on stderr while the block runs."""
    bars = _Bars()
    try:
        with reporting(bars.report):
            yield
    finally:
        bars.close()
