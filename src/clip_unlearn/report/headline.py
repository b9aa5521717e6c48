"""The first lines of a page: what was asked, and the result in one sentence."""

import datetime
from pathlib import Path
from typing import Final

from clip_unlearn.core.record import Record
from clip_unlearn.report import numbers
from clip_unlearn.report.results import Results
from clip_unlearn.report.rows import Row

NAMES_SHOWN: Final = 3


def title(record: Record) -> str:
    """Return what was to be forgotten, for example "Forgetting “mug”" or "Forgetting 20 classes"."""
    names = record.origin.request.forget_names
    return f"Forgetting {quoted(names) if len(names) <= NAMES_SHOWN else f'{numbers.whole(len(names))} classes'}"


def moment(created: str) -> str:
    """Return a time as "2025-01-02 03:04 UTC"; a text that is no time of a known zone stays as it is."""
    try:
        time = datetime.datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC" if time.tzinfo else created


def short(where: str) -> str:
    """Return where something came from as a heading shows it: of a local path the last part only."""
    return Path(where).name or where if where.startswith(("/", ".", "~")) else where


def sentence(record: Record, results: Results) -> str:
    """Return the result in one sentence, with count and interval; what is not measured is said to be so."""
    if record.origin.reason and not record.origin.touches:
        return f"Nothing was changed: {record.origin.reason.strip().rstrip('.')}."
    names = record.origin.request.forget_names
    what = quoted(names) if len(names) <= NAMES_SHOWN else "the forgotten classes"
    forget = _told(results.total("forget accuracy"), f"pictures of {what}")
    retain = _told(results.total("retain accuracy"), "pictures of all other classes")
    if not forget and not retain:
        forget = _told(results.total("forget text-to-image recall@10"), f"pictures of {what}, searched by caption,")
        retain = _told(results.total("retain text-to-image recall@10"), "other pictures, searched by caption,")
    if not forget and not retain:
        return "Accuracy was not measured in this run, so this page says what was changed, not what it achieved."
    return f"{'; '.join(part for part in (forget, retain) if part)}."


def quoted(names: tuple[str, ...]) -> str:
    """Return names in quotation marks: “mug”, “cup” and “bowl”."""
    marked = [f"“{name}”" for name in names]
    return marked[0] if len(marked) == 1 else f"{', '.join(marked[:-1])} and {marked[-1]}"


def _told(row: Row | None, what: str) -> str:
    if row is None or row.after is None:
        return ""
    comparison, about = row.comparison, f"on {row.count} {what}"
    interval = row.after.interval.strip("()")
    after = f"{row.after.value} (95 % interval {interval})" if interval else row.after.value
    if row.before is None or comparison.before is None or comparison.after is None:
        return f"{about} the edited model is right in {after}"
    if row.before.value == row.after.value:
        return f"{about} right answers stayed at {after}"
    if row.verdict == "no clear change":
        return f"{about} right answers went from {row.before.value} to {after}, no clear change"
    verb = "fell" if comparison.after.value < comparison.before.value else "rose"
    return f"{about} right answers {verb} from {row.before.value} to {after}"
