"""`forget` and `demo`: the main job."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clip_unlearn.cli import console
from clip_unlearn.errors import SettingError

ModelOption = Annotated[str | None, typer.Option("--model", help="Folder, hub id, openclip:NAME,WEIGHTS, or sandbox.")]
ForgetOption = Annotated[
    list[str] | None, typer.Option("--forget", help="Name to forget, 'name | synonym', or a file. Repeatable.")
]
RetainOption = Annotated[list[str] | None, typer.Option("--retain", help="Name to retain, or a file. Repeatable.")]
OtherNamesOption = Annotated[
    str | None, typer.Option("--other-names", help="Other names to forget too: auto, wordnet or none.")
]
BackgroundOption = Annotated[str | None, typer.Option("--background", help="What else to hold: nouns or none.")]
MethodOption = Annotated[str | None, typer.Option("--method", help="Method; see 'ls methods'.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Method setting key=value or table.key=value. Repeatable."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget", help="Points of retained accuracy that a setting given as 'auto' may cost; 1 if not given."
    ),
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Images to measure on: folder, Parquet, CSV, shards, or sandbox.")
]
EvidenceOption = Annotated[
    str | None, typer.Option("--evidence", help="Images to learn from; the stop part of --data if not given.")
]
OtherDataOption = Annotated[
    list[str] | None, typer.Option("--other-data", help="Other labelled images, which should not suffer. Repeatable.")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Part of the data: all, stop, select or audit.")]
TemplatesOption = Annotated[
    str | None, typer.Option("--templates", help="Template set, file, or one sentence with {}.")
]
ProbeOption = Annotated[list[str] | None, typer.Option("--probe", help="What to measure; see 'ls probes'. Repeatable.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Seed of everything random in the method.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Where to compute: cpu, cuda, ...")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Never open a connection.")]
PLAIN = ("templates", "probes", "evidence", "other_data", "seed", "other_names", "background", "budget")
"""Flags that stand for the field of the same name in a recipe."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the output folder.")]


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
    recipe: Annotated[Path | None, typer.Option("--recipe", help="YAML recipe; flags override it.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for patch, record and summary.")] = Path("out/forget"),
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Make a model forget classes: writes a patch, a record and a summary."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
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
    values = _merged(recipe, {name: value for name, value in flags.items() if value not in (None, [])})
    _carry_out(values, out, as_json=as_json, force=force, dry_run=dry_run, resume=resume)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for patch, record and summary.")] = Path("out/demo"),
    as_json: JsonOption = False,
) -> None:
    """Make the embedded model forget "mug" and show what changed; replaces the output folder."""
    values: dict[str, Any] = {"model": "sandbox", "forget": ["mug"], "data": "sandbox"}
    _carry_out(values, out, as_json=as_json, force=True, dry_run=False, resume=False)


def _merged(recipe: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe file overridden by flags."""
    from clip_unlearn.data.names import read_names
    from clip_unlearn.runs.recipe import Recipe

    values: dict[str, Any] = {} if recipe is None else Recipe.load(recipe).model_dump(by_alias=True)
    _override(values, "model", {"model": "id", "offline": "offline", "device": "device"}, flags)
    _override(values, "data", {"data": "path", "split": "split"}, flags)
    for name in ("forget", "retain"):
        if name in flags:
            values[name] = [one for given in flags[name] for one in read_names(given)]
    _override_method(values, flags)
    values.update({name: flags[name] for name in PLAIN if name in flags})
    if "id" not in values.get("model", {}):
        raise SettingError("No model. Give one with --model, for example --model sandbox.")
    values.setdefault("forget", [])
    return values


def _override(values: dict[str, Any], name: str, fields: dict[str, str], flags: dict[str, Any]) -> None:
    """Replace fields of one table of the recipe by the flags that stand for them."""
    given = {field: flags[flag] for flag, field in fields.items() if flag in flags}
    if given:
        values[name] = {**(values.get(name) or {}), **given}


def _override_method(values: dict[str, Any], flags: dict[str, Any]) -> None:
    from clip_unlearn.runs.recipe import DEFAULT_METHOD

    if "method" in flags:
        values["method"] = {"name": flags["method"], "settings": {}}
    if "settings" in flags:
        chosen = values.setdefault("method", {"name": DEFAULT_METHOD, "settings": {}})
        chosen["settings"] = _over(chosen["settings"], _settings(flags["settings"]))


def _over(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return settings with others over them; a table keeps what the other one does not name."""
    tables = {name for name in new if isinstance(old.get(name), dict) and isinstance(new[name], dict)}
    return {**old, **new, **{name: {**old[name], **new[name]} for name in tables}}


def _settings(pairs: list[str]) -> dict[str, Any]:
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise SettingError(f"--set {pair!r} is not key=value. Write for example --set strength=0.9.")
        *tables, last = name.strip().split(".")
        try:
            _place(settings, tables, pair)[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingError(
                f"--set {pair!r} has no readable value. Write for example --set strength=0.9."
            ) from error
    return settings


def _place(settings: dict[str, Any], tables: list[str], pair: str) -> dict[str, Any]:
    """Return the table that a dotted name such as `descent.steps` is in."""
    for table in tables:
        settings = settings.setdefault(table, {})
        if not isinstance(settings, dict):
            raise SettingError(f"--set {pair!r} and another --set give '{table}' in two ways. Give one of them.")
    return settings


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
