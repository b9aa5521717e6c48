"""`compare`: records side by side."""

import math
from pathlib import Path
from typing import Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.options import JsonOption
from clip_unlearn.errors import SettingError


def compare(
    records: Annotated[
        list[Path], typer.Argument(help="Records, or folders of runs; the first is the one to compare with.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Compare records of one request on the same data: which forgets more, which keeps more, and how surely."""
    from clip_unlearn.runs.compare import compare_records, load_record

    if len(records) < 2:
        raise SettingError("One record alone cannot be compared. Give two or more.")
    first, *others = [(str(where), load_record(where)) for where in records]
    found = [compare_records(first[1], record, names=(first[0], name)) for name, record in others]
    if as_json:
        console.show_json([one.model_dump(mode="json") for one in found])
        return
    for one in found:
        rows = [
            [
                each.name,
                f"{100 * each.first:.1f} %",
                f"{100 * each.second:.1f} %",
                f"{100 * each.difference:+.1f} ({100 * each.low:+.1f} to {100 * each.high:+.1f})",
                _probability(each.p_value),
                _probability(each.adjusted),
                each.unit,
            ]
            for each in one.differences
        ]
        console.show_texts(
            f"{one.second} less {one.first}", ("", "first", "second", "points", "p", "p of all", "over"), rows
        )


def _probability(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2g}"
