"""`lab`: what audits are worth on models of which is known what they hold."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.options import JsonOption
from clip_unlearn.errors import SettingError

if TYPE_CHECKING:
    from clip_unlearn.core.distance import Estimate
    from clip_unlearn.core.validation import Separation, Validation


SORTS = {"unseen": "never seen", "word": "word alone"}
"""What the sorts of models that never saw the class are called in tables."""


def lab(
    audits: Annotated[
        list[str] | None,
        typer.Argument(help="Audits to try, or quick, standard, full; the standard ones if not given."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Models of each sort and class; there are three sorts and three classes.")
    ] = 6,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes, one thread each.")] = os.cpu_count() or 1,
    method: Annotated[
        str | None, typer.Option("--method", help="Instead of audits: how far this method comes to never having seen.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try audits, or a method, on small models that hold a class and on models that never saw it; all is kept."""
    from clip_unlearn.runs import lab as run

    if method is not None:
        if audits:
            raise SettingError("Audits and --method are two questions. Give one of them.")
        _show_method(method, seeds=seeds, jobs=jobs, as_json=as_json)
        return
    from clip_unlearn.runs.lab_table import validations
    from clip_unlearn.runs.suites import chosen

    names, _ = chosen(",".join(audits or ["standard"]))
    _note_missing(seeds, jobs)
    with console.progress():
        rows = validations(run.measure(names, seeds=seeds, jobs=jobs))
    if not rows:
        raise SettingError(f"{', '.join(names)}: no figure of these is defined on models that never saw the class.")
    if as_json:
        console.show_json([{**one.model_dump(mode="json"), "qualifies": one.qualifies} for one in rows])
        return
    console.show_texts(
        f"models that hold a class, and models that never saw it: {max(one.count for one in rows)} of each sort",
        ("", "holds it", "hidden", "never seen", "AUC", "word alone", "AUC", "alarms", ""),
        [_row(one) for one in rows],
    )


def _note_missing(seeds: int, jobs: int) -> None:
    """Say how long the models that are not there yet take to train."""
    from clip_unlearn.runs.lab import untrained

    missing = untrained(seeds)
    if missing:
        console.note(f"{missing} models to train, about {max(1, round(missing / 2 / max(1, jobs)))} minutes")


def _show_method(method: str, *, seeds: int, jobs: int, as_json: bool) -> None:
    from clip_unlearn import methods
    from clip_unlearn.core.distance import INDISTINGUISHABLE, retraining_lines
    from clip_unlearn.runs.lab_distance import distances

    kind = methods.find(method)
    _note_missing(seeds, jobs)
    with console.progress():
        found = distances(kind(), seeds=seeds, jobs=jobs)
    if as_json:
        lines = {one.sort: [line.model_dump(mode="json") for line in retraining_lines([one])] for one in found}
        console.show_json([{**one.model_dump(mode="json"), "lines": lines[one.sort]} for one in found])
        return
    figures = {
        "distance of log odds (KS)": "kolmogorov_smirnov",
        "  between two never-taught ones": "kolmogorov_smirnov_floor",
        "tug of war (ToW), 1 is best": "tug_of_war",
        "  between two never-taught ones ": "tug_of_war_floor",
        "unlearning score (NoMUS), 1 is best": "unlearning_score",
        "  of the never-taught ones": "unlearning_score_floor",
        "attacker's AUC (U-LiRA), 0.5 is best": "likelihood_ratio",
    }
    console.show_texts(
        f"{method} on {found[0].count} models, beside as many that never saw the class",
        ("", *(SORTS[one.sort] for one in found)),
        [[label, *(_estimate(getattr(one, field)) for one in found)] for label, field in figures.items()],
    )
    needed = retraining_lines(found)
    rows = [[line.grade, "yes" if line.passed else "no", line.what, line.why] for line in needed]
    console.show_texts("what F5 needs", ("grade", "holds", "", ""), rows)
    if all(line.passed for line in needed):
        console.show(f"F5: {INDISTINGUISHABLE}")


def _estimate(one: "Estimate") -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


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
