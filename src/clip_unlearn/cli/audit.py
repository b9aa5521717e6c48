"""`audit`: attack a patch and grade what it may claim."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import parse_seconds, stay_offline
from clip_unlearn.cli.options import ForceOption, JsonOption, ModelOption, OfflineOption, SplitOption
from clip_unlearn.core.record import Grade, Record
from clip_unlearn.errors import SettingError

BELOW = 3
"""Exit code where the grade is below the one that is required."""

Required = Literal["F1", "F2", "F3", "F4"]


def audit(
    patch: Annotated[str, typer.Option("--patch", help="Patch folder or hub id.")],
    data: Annotated[str, typer.Option("--data", help="Labelled images: folder, Parquet, CSV, shards, or sandbox.")],
    model: ModelOption = None,
    suite: Annotated[str, typer.Option("--suite", help="quick, standard, full, or audits: image_refit,rounding.")] = (
        "quick"
    ),
    split: SplitOption = None,
    support: Annotated[
        str | None, typer.Option("--support", help="Images that attacks learn from; the select part if not given.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Model that names the pictures that class_inversion paints.")
    ] = None,
    novel: Annotated[
        str | None, typer.Option("--novel", help="Images of 5 or more classes that the model does not know.")
    ] = None,
    reference: Annotated[
        list[str] | None, typer.Option("--reference", help="Model that never saw the class. Repeatable.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Time for all of it: 90s, 5m or 2h; audits beyond are left out."),
    ] = None,
    require: Annotated[
        Required | None, typer.Option("--require", help="Exit with code 3 where the grade is below this one.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for record and summary.")] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Attack an edit: try to bring the forgotten back, and grade what may be claimed."""
    stay_offline(offline)
    within = None if budget is None else parse_seconds(budget, where="--budget")
    from clip_unlearn.core.config import build
    from clip_unlearn.core.patch import Patch
    from clip_unlearn.models.open import open_model
    from clip_unlearn.report.numbers import seconds
    from clip_unlearn.runs.audit import plan_audit, run_audit, write
    from clip_unlearn.runs.plan import Aids, check_output
    from clip_unlearn.runs.recipe import DataChoice

    loaded = Patch.from_pretrained(patch, local_files_only=offline)
    where = model or (loaded.origin.base.where if loaded.origin else "")
    if not where:
        raise SettingError("The patch does not say which model it was made for. Give it with --model.")
    choice = build(DataChoice, {"path": data, "split": split or "all"}, where="--data")
    if out is not None:
        check_output(out, force=force)
    command = shlex.join(["clip-unlearn", *sys.argv[1:]])
    with console.progress():
        opened = open_model(where, offline=offline)
        plan = plan_audit(
            opened,
            loaded,
            choice,
            suite=suite,
            aids=Aids(support=support or "", judge=judge or "", novel=novel or ""),
            references=[open_model(one, offline=offline) for one in reference or ()],
            budget=within,
        )
        console.note(f"{len(plan.probes)} audits, about {seconds(plan.seconds)}")
        record = run_audit(plan, command=command)
    if out is not None:
        write(record, out, force=force)
    _show(record, as_json=as_json, out=out)
    if require and record.grade is not None and not record.grade.reaches(require):
        raise typer.Exit(BELOW)


def _show(record: Record, *, as_json: bool, out: Path | None) -> None:
    if as_json:
        console.show_json(record.model_dump(mode="json"))
        return
    names = ", ".join(record.origin.request.forget_names)
    console.show_readings(f"{record.origin.base.where} without {names} ({record.origin.method})", record.readings)
    for skipped in record.skipped:
        console.show(f"not made: {skipped.probe}: {skipped.reason}")
    if record.grade is not None:
        _show_grade(record.grade)
    if out is not None:
        console.show(f"record   {out / 'record.json'}")
        console.show(f"summary  {out / 'summary.html'}")


def _show_grade(grade: Grade) -> None:
    rows = [[line.grade, "yes" if line.passed else "no", line.what, line.why] for line in grade.lines]
    console.show_texts("what each grade needs", ("grade", "holds", "", ""), rows)
    console.show(f"grade    {grade.grade}: {grade.words}")
    console.show(f"ceiling  {grade.ceiling}: {grade.why}")
