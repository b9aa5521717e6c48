"""`forget` and `demo`: the main job."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import merged, stay_offline
from clip_unlearn.cli.options import (
    BackgroundOption,
    BudgetOption,
    DataOption,
    DeviceOption,
    EvidenceOption,
    ForceOption,
    ForgetOption,
    JsonOption,
    MethodOption,
    ModelOption,
    OfflineOption,
    OtherDataOption,
    OtherNamesOption,
    ProbeOption,
    RecipeOption,
    ResumeOption,
    RetainOption,
    SeedOption,
    SetOption,
    SplitOption,
    TemplatesOption,
)


def forget(
    model: ModelOption = None,
    forget: ForgetOption = None,
    retain: RetainOption = None,
    other_names: OtherNamesOption = None,
    background: BackgroundOption = None,
    method: MethodOption = None,
    settings: SetOption = None,
    budget: BudgetOption = None,
    data: DataOption = None,
    split: SplitOption = None,
    evidence: EvidenceOption = None,
    other_data: OtherDataOption = None,
    templates: TemplatesOption = None,
    probes: ProbeOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    recipe: RecipeOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for patch, record and summary.")] = Path("out/forget"),
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    resume: ResumeOption = False,
) -> None:
    """Make a model forget classes: writes a patch, a record and a summary."""
    stay_offline(offline)
    flags = {
        "model": model,
        "forget": forget,
        "retain": retain,
        "other_names": other_names,
        "background": background,
        "method": method,
        "settings": settings,
        "budget": budget,
        "data": data,
        "split": split,
        "evidence": evidence,
        "other_data": other_data,
        "templates": templates,
        "probes": probes,
        "seed": seed,
        "device": device,
        "offline": offline or None,
    }
    values = merged(recipe, flags)
    _carry_out(values, out, as_json=as_json, force=force, dry_run=dry_run, resume=resume)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for patch, record and summary.")] = Path("out/demo"),
    as_json: JsonOption = False,
) -> None:
    """Make the embedded model forget "mug" and show what changed; replaces the output folder."""
    values: dict[str, Any] = {"model": "sandbox", "forget": ["mug"], "data": "sandbox"}
    _carry_out(values, out, as_json=as_json, force=True, dry_run=False, resume=False)


def _carry_out(values: dict[str, Any], out: Path, *, as_json: bool, force: bool, dry_run: bool, resume: bool) -> None:
    from clip_unlearn.core.config import build
    from clip_unlearn.core.processes import is_main
    from clip_unlearn.runs.plan import check_output, plan
    from clip_unlearn.runs.recipe import Recipe
    from clip_unlearn.runs.run import run
    from clip_unlearn.runs.search import AUTO

    recipe = build(Recipe, values, where="recipe")
    if dry_run:
        check_output(out, force=force)
        prepared = plan(recipe)
        console.show_json({"would_write": str(out), "request": prepared.request.model_dump(mode="json")})
        return
    with console.progress():
        command = shlex.join(["clip-unlearn", *(word for word in sys.argv[1:] if word != "--resume")])
        record = run(recipe, out, force=force, resume=resume, command=command)
    if not is_main():
        return
    if as_json:
        console.show_json(record.model_dump(mode="json"))
        return
    names = ", ".join(record.origin.request.forget_names)
    console.show_readings(f"{record.origin.base.where} without {names} ({record.origin.method})", record.readings)
    for skipped in record.skipped:
        console.show(f"not measured: {skipped.probe}: {skipped.reason}")
    for setting in (name for name, value in recipe.method.settings.items() if value == AUTO):
        console.show(f"chosen   {setting}={record.origin.settings[setting]}")
    console.show(f"record   {out / 'record.json'}")
    console.show(f"patch    {out / 'patch'}")
    console.show(f"summary  {out / 'summary.html'}")
