"""Images listed in a CSV or TSV table: `filepath` and `label`, `caption` or `title`."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clip_unlearn.data.entries import Entry, listed, read_text
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import DataError, nearest
from clip_unlearn.files import paths

TABLE_LIMIT: Final = 500_000_000
"""Most bytes of a table."""

FILE_COLUMNS: Final = ("filepath", "file_name")
CAPTION_COLUMNS: Final = ("caption", "title", "text")
LABEL_COLUMN: Final = "label"


def open_table(path: Path, where: str) -> ImageSet:
    """Return the images that a table lists; several rows of one file are several captions of it.

    Paths are relative to the table's folder and stay below it; absolute paths are accepted below it only.

    Raises:
        DataError: if the table is not UTF-8 text or lacks its columns, a path leads out of the folder, or a file has
            two labels.
    """
    return open_rows(rows(path), path, where)


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table by column name; empty cells and the cells beyond the header are left out.

    A `.tsv` is separated by tabs, a `.csv` by tabs when its header holds one and by commas when not.

    Raises:
        DataError: if it is not UTF-8 text or not a table.
    """
    text = read_text(path, limit=TABLE_LIMIT)
    header = text.split("\n", 1)[0]
    separator = "\t" if path.suffix.lower() == ".tsv" or "\t" in header else ","
    try:
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey=""))
    except csv.Error as error:
        raise DataError(f"{path} is not a table ({error}). Save it as CSV with a header line.") from error
    return [
        {name: cell for name, cell in line.items() if name and isinstance(cell, str) and cell.strip()} for line in lines
    ]


def open_rows(lines: Sequence[dict[str, str]], path: Path, where: str) -> ImageSet:
    """Return the images that rows list, relative to the folder of `path`.

    Raises:
        DataError: see `open_table`.
    """
    names = list(dict.fromkeys(name for line in lines for name in line))
    file_column = _column(names, FILE_COLUMNS)
    caption_column = _column(names, CAPTION_COLUMNS)
    if file_column is None:
        found = ", ".join(names[:8]) or "none"
        hint = next(filter(None, (nearest(name, FILE_COLUMNS) for name in names)), "")
        raise DataError(f"{path} has no column 'filepath' (columns: {found}).{hint} Name the column of the images so.")
    if caption_column is None and LABEL_COLUMN not in names:
        raise DataError(f"{path} has neither a column 'label' nor 'caption' or 'title'. Add one of them.")
    entries: dict[str, Entry] = {}
    for number, line in enumerate(lines, start=2):
        if file_column not in line:
            raise DataError(f"{path} row {number} has no file. Fill in '{file_column}' or remove the row.")
        entry = _entry(path.parent, line[file_column].strip(), line.get(LABEL_COLUMN), line.get(caption_column or ""))
        entries[entry.key] = _merged(entries.get(entry.key), entry, f"{path} row {number}")
    return listed(where, list(entries.values()))


def _column(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _entry(folder: Path, name: str, label: str | None, caption: str | None) -> Entry:
    try:
        relative = _below(folder, name) if Path(name).is_absolute() else name
    except ValueError as error:
        raise DataError(f"{name!r} leads out of {folder}. Use paths below it.") from error
    path = paths.inside(folder, relative)
    return Entry(key=relative, path=path, label=label, captions=(caption.strip(),) if caption else ())


def _below(folder: Path, name: str) -> str:
    return Path(os.path.realpath(name)).relative_to(os.path.realpath(folder)).as_posix()


def _merged(before: Entry | None, entry: Entry, place: str) -> Entry:
    if before is None:
        return entry
    if before.label != entry.label:
        raise DataError(f"{place}: '{entry.key}' has label '{entry.label}' here and '{before.label}' before. Keep one.")
    return Entry(key=entry.key, path=entry.path, label=entry.label, captions=before.captions + entry.captions)
