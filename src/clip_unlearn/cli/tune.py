"""`tune`: which settings of a method forget most within a budget."""

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import merged, stay_offline
from clip_unlearn.cli.options import (
    BackgroundOption,
    DeviceOption,
    EvidenceOption,
    ForceOption,
    ForgetOption,
    JsonOption,
    MethodOption,
    ModelOption,
    OfflineOption,
    OtherNamesOption,
    RecipeOption,
    RetainOption,
    SeedOption,
    SetOption,
    TemplatesOption,
)
from clip_unlearn.errors import SettingError

if TYPE_CHECKING:
    from clip_unlearn.core.record import Reading
    from clip_unlearn.runs.tuned import Trial, Tuning


def tune(
    model: ModelOption = None,
    forget: ForgetOption = None,
    retain: RetainOption = None,
    other_names: OtherNamesOption = None,
    background: BackgroundOption = None,
    method: MethodOption = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search", help="Setting to search: name=low:high, name=low:high:log or name=one,other. Repeatable."
        ),
    ] = None,
    settings: SetOption = None,
    trials: Annotated[int | None, typer.Option("--trials", help="Most settings to try; 20 if not given.")] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", help="Points of retained accuracy that may be lost; 1 if not given.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds after which no further trial starts.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Labelled images: folder, Parquet, CSV, shards, or sandbox; without a part."),
    ] = None,
    evidence: EvidenceOption = None,
    templates: TemplatesOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    recipe: RecipeOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for trials, plot and recipe.")] = Path("out/tune"),
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted search.")] = False,
) -> None:
    """Search a method's settings on the select part of the data: writes trials, a plot and a recipe for forget."""
    stay_offline(offline)
    flags = {
        "model": model,
        "forget": forget,
        "retain": retain,
        "other_names": other_names,
        "background": background,
        "method": method,
        "settings": settings,
        "data": data,
        "evidence": evidence,
        "templates": templates,
        "seed": seed,
        "device": device,
        "offline": offline or None,
    }
    values = merged(recipe, flags)
    given = {"trials": trials, "budget": values.get("budget") if budget is None else budget, "timeout": timeout}
    _carry_out(
        {"recipe": values, "search": search or [], **{name: one for name, one in given.items() if one is not None}},
        out,
        as_json=as_json,
        force=force,
        resume=resume,
    )


def _carry_out(values: dict[str, object], out: Path, *, as_json: bool, force: bool, resume: bool) -> None:
    from clip_unlearn.core.config import build
    from clip_unlearn.runs import tune as run
    from clip_unlearn.runs.tuned import TuneOrder

    command = shlex.join(["clip-unlearn", *(word for word in sys.argv[1:] if word != "--resume")])
    with console.progress():
        tuning = run.tune(build(TuneOrder, values, where="tune"), out, force=force, resume=resume, command=command)
    if as_json:
        console.show_json(tuning.model_dump(mode="json", by_alias=True))
    else:
        _show(tuning, out)
    if tuning.chosen is None:
        raise SettingError(f"{run.unmet(tuning)} All trials are in {out}.")


def _show(tuning: "Tuning", out: Path) -> None:
    names = [one.setting for one in tuning.dimensions]
    forget, retain = tuning.before
    rows = [["unedited", *("" for _ in names), _share(forget), _share(retain), "", ""]]
    # Of trials that do the same, the first one stands for all.
    front = {(one.forget, one.retain): one for one in reversed(tuning.trials) if one.front}
    rows += [[_label(trial, tuning), *_told(trial, names)] for trial in reversed(front.values())]
    console.show_rows(
        f"{tuning.order.recipe.method.name} on {tuning.data.where}: {len(tuning.trials)} trials by {tuning.strategy}; "
        "those that no other one beats",
        ("trial", *names, "forget accuracy", "retain accuracy", "change", "budget"),
        rows,
    )
    console.show(f"measured {forget.count} pictures to forget, {retain.count} to retain")
    for reason, count in Counter(trial.reason for trial in tuning.trials if trial.failure).items():
        console.show(f"failed   {count} of them: {reason}")
    if tuning.timed_out:
        console.show("the time was up before the search was done")
    best = tuning.best
    if best is not None:
        console.show(f"chosen   {', '.join(f'{name}={value}' for name, value in best.settings.items())}")
        console.show(f"recipe   {out / 'recipe.yaml'}")
        console.show("chosen on the select part; report what forget measures on the audit part")
    console.show(f"plot     {out / 'pareto.svg'}")
    console.show(f"trials   {out / 'tune.json'}")


def _label(trial: "Trial", tuning: "Tuning") -> str:
    return f"{trial.number} (chosen)" if trial.number == tuning.chosen else str(trial.number)


def _told(trial: "Trial", names: list[str]) -> list[str]:
    if trial.forget is None or trial.retain is None or trial.cost is None:
        raise TypeError("a trial that no other one beats has not failed")
    change = f"{100 * trial.cost.value:+.2f} pt"
    within = "within" if trial.within else "beyond"
    return [*(str(trial.settings[name]) for name in names), _share(trial.forget), _share(trial.retain), change, within]


def _share(reading: "Reading") -> str:
    return f"{100 * reading.value:.1f} % ({100 * reading.low:.1f}-{100 * reading.high:.1f})"
