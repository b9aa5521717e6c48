"""`lab`: what audits are worth on models of which is known what they hold."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.options import JsonOption

if TYPE_CHECKING:
    from clip_unlearn.core.validation import Separation, Validation


def lab(
    audits: Annotated[
        list[str] | None,
        typer.Argument(help="Audits to try, or quick, standard, full; the standard ones if not given."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Models of each sort and class; there are three sorts and three classes.")
    ] = 6,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes, one thread each.")] = os.cpu_count() or 1,
    as_json: JsonOption = False,
) -> None:
    """Try audits on small models that hold a class and on models that never saw it; what was measured is kept."""
    from clip_unlearn.runs import lab as run
    from clip_unlearn.runs.lab_table import validations
    from clip_unlearn.runs.suites import chosen

    names, _ = chosen(",".join(audits or ["standard"]))
    missing = run.untrained(seeds)
    if missing:
        console.note(f"{missing} models to train, about {max(1, round(missing / 2 / max(1, jobs)))} minutes")
    with console.progress():
        rows = validations(run.measure(names, seeds=seeds, jobs=jobs))
    if as_json:
        console.show_json([{**one.model_dump(mode="json"), "qualifies": one.qualifies} for one in rows])
        return
    console.show_texts(
        f"models that hold a class, and models that never saw it: {max(one.count for one in rows)} of each sort",
        ("", "holds it", "hidden", "never seen", "AUC", "word alone", "AUC", "alarms", ""),
        [_row(one) for one in rows],
    )


def _row(one: "Validation") -> list[str]:
    return [
        one.reading,
        _number(one.knowing),
        _number(one.hidden),
        _number(one.unseen.mean),
        _area(one.unseen),
        _number(one.word.mean),
        _area(one.word),
        " + ".join(str(side.alarms) for side in (one.unseen, one.word) if side.alarms is not None),
        "qualifies" if one.qualifies else "descriptive only",
    ]


def _area(side: "Separation") -> str:
    return f"{side.auc:.2f} ({side.low:.2f} to {side.high:.2f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value <= 1 else f"{value:.0f}"
