"""Search a method's settings on the select part of the data, within a budget of retained accuracy."""

import os
from pathlib import Path
from typing import Final, get_args

from clip_unlearn.core.config import build
from clip_unlearn.core.journal import journaling
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Plain, Source
from clip_unlearn.core.versions import version
from clip_unlearn.data import world
from clip_unlearn.data.splits import Part
from clip_unlearn.errors import DataError, SettingError, UnsupportedError
from clip_unlearn.files import atomic
from clip_unlearn.report.pareto import Point, pareto
from clip_unlearn.runs.plan import Plan, plan
from clip_unlearn.runs.recipe import DataChoice, Recipe
from clip_unlearn.runs.run import JOURNAL, RECIPE_FILE
from clip_unlearn.runs.tune_search import Trials, explore, strategy_of
from clip_unlearn.runs.tune_space import Space, read_space
from clip_unlearn.runs.tune_trial import make_bench
from clip_unlearn.runs.tuned import NOTE, Trial, TuneOrder, Tuning, marked, preferred

FILE: Final = "tune.json"
PLOT_FILE: Final = "pareto.svg"
STEPS: Final = "trial"
"""Folder in the journal for the steps of the trial that is being made."""


def tune(
    order: TuneOrder,
    out: Path,
    *,
    force: bool = False,
    resume: bool = False,
    command: str = "",
    model: Model | None = None,
) -> Tuning:
    """Search the settings and write `out`: tune.json, pareto.svg and, where a trial is within the budget, recipe.yaml.

    A method learns from the evidence, or the `stop` part of the data; every trial is measured on the `select` part;
    the `audit` part is never opened, and the recipe says to measure there. Chosen is the trial that forgets most of
    those whose retained accuracy falls by no more than the budget, of equals the one that retains most. Trials are
    kept in `out`.journal until `out` is there, whole; after an interruption `resume` takes them from it, and goes on to
    the same trials. Same order, same trials, unless the time is up before.

    Raises:
        InputError: if the search, anything in the recipe or the output folder is not usable.
        UnsupportedError: if several settings are searched and Optuna is not installed, or several processes are
            started.
        StorageError: if the disk refuses.
    """
    out = Path(os.path.abspath(out))
    atomic.check_free(out, force=force)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UnsupportedError("tune runs in one process. Start it without a launcher.")
    space = read_space(order.recipe.method, order.search)
    strategy_of(space, order.trials)
    prepared = _prepared(order.recipe, space, model)
    kept = out.with_name(out.name + JOURNAL)
    with journaling(kept, resume=resume):
        tuning = _searched(order, space, prepared, kept / STEPS, resume=resume)
        tuning = tuning.model_copy(update={"command": command})
        with atomic.new_folder(out, force=force) as folder:
            _write(tuning, space, folder)
    return tuning


def unmet(tuning: Tuning) -> str:
    """Return the line that says that no trial is within the budget, with the way out."""
    names = ", ".join(one.setting for one in tuning.dimensions)
    costs = [(-100 * one.cost.value, one.number) for one in tuning.trials if one.cost is not None]
    if not costs:
        why = tuning.trials[0].reason
        return f"None of {len(tuning.trials)} trials gave a patch: {why} Search other values of {names}."
    points, number = min(costs)
    return (
        f"No trial is within the budget of {tuning.order.budget:g} points of retained accuracy; trial {number} costs "
        f"least, {points:.2f}. Search gentler values of {names}, or give a larger --budget."
    )


def chosen_recipe(order: TuneOrder, space: Space, values: dict[str, Plain]) -> Recipe:
    """Return the recipe with the values of a trial, to be measured on the audit part."""
    path = "" if order.recipe.data is None else order.recipe.data.path
    changes = {
        "method": {"name": space.name, "settings": space.settings(values)},
        "data": {"path": path, "split": "audit"},
        "budget": None,
    }
    return build(Recipe, {**order.recipe.model_dump(by_alias=True), **changes}, where="recipe")


def _prepared(recipe: Recipe, space: Space, model: Model | None) -> Plan:
    """Return the checked parts of a search: a method that needs all that any trial needs, and the select part."""
    data = _data(recipe)
    widest = max(space.corners(), key=lambda values: "images" in space.method(values).requires())
    changes = {
        "method": {"name": space.name, "settings": space.settings(widest)},
        "data": {"path": data.path, "split": "select"},
        "budget": None,
        "probes": (),
        "other_data": (),
    }
    prepared = plan(build(Recipe, {**recipe.model_dump(by_alias=True), **changes}, where="recipe"), model=model)
    if prepared.images is None or not prepared.images.classes:
        raise DataError(f"{data.path} has no class labels to measure accuracy with. Give labelled images.")
    return prepared


def _data(recipe: Recipe) -> DataChoice:
    """Return the data, whose parts must be free to be used for different things."""
    if recipe.data is None:
        raise SettingError("No data. tune measures on images; give them with --data, for example --data sandbox.")
    source, _, part = recipe.data.path.rpartition("@")
    if source and part in get_args(Part):
        raise SettingError(
            f"tune learns from one part of the data, chooses on another and leaves the third for the result. Write "
            f"--data {source} in place of {recipe.data.path}."
        )
    if recipe.evidence is not None and _is_audit(recipe.evidence, recipe.data.path):
        raise SettingError(
            f"Evidence {recipe.evidence.path} is the audit part of the data, which the result is to be measured on. "
            f"Learn from --evidence {recipe.data.path}@stop."
        )
    return recipe.data


def _is_audit(evidence: DataChoice, data: str) -> bool:
    source, _, part = evidence.path.rpartition("@")
    if not source or part not in get_args(Part):
        source, part = evidence.path, evidence.split
    # The embedded world without a part is its audit stream.
    embedded = all(one.partition(":")[0] == world.NAME for one in (source, data))
    return part in ("audit", "all") if embedded else part == "audit" and source == data


def _searched(order: TuneOrder, space: Space, prepared: Plan, steps: Path, *, resume: bool) -> Tuning:
    images, base = prepared.images, prepared.model.source
    if images is None:
        raise TypeError("a search has images")
    bench = make_bench(prepared.model, prepared.request, images, budget=order.budget, steps=steps, resume=resume)

    def make(number: int, values: dict[str, Plain]) -> Trial:
        return bench.trial(number, values, bench.outcome(space.method(values)))

    trials = Trials(make=make, most=order.trials, timeout=order.timeout)
    explore(space, trials, seed=order.recipe.seed)
    best = preferred(trials.made)
    return Tuning(
        version=version(),
        model=Source(where=base.where, revision=base.revision, digest=prepared.model.fingerprint),
        data=Source(where=images.where, digest=images.digest, count=len(images)),
        evidence=prepared.request.evidence,
        order=order,
        dimensions=space.dimensions,
        strategy=strategy_of(space, order.trials),
        before=bench.before,
        trials=marked(trials.made),
        chosen=None if best is None else best.number,
        timed_out=trials.timed_out,
    )


def _write(tuning: Tuning, space: Space, folder: Path) -> None:
    atomic.write_json(folder / FILE, tuning.model_dump(mode="json", by_alias=True))
    atomic.write_text(folder / PLOT_FILE, _plot(tuning))
    best = tuning.best
    if best is not None:
        told = f"# {NOTE}\n{chosen_recipe(tuning.order, space, best.settings).to_yaml()}"
        atomic.write_text(folder / RECIPE_FILE, told)


def _plot(tuning: Tuning) -> str:
    forget, retain = tuning.before
    points = [_point(trial, tuning.chosen) for trial in tuning.trials if not trial.failure]
    before = Point(forget=forget.value, retain=retain.value, text="unedited")
    floor = retain.value - tuning.order.budget / 100
    title = f"{tuning.order.recipe.method.name}: {len(points)} trials on {tuning.data.where}"
    note = "Chosen on the select part; report what is measured on the audit part."
    return pareto(points, before, floor=floor, title=title, note=note)


def _point(trial: Trial, chosen: int | None) -> Point:
    if trial.forget is None or trial.retain is None:
        raise TypeError("a trial that failed has no point")
    settings = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
    return Point(
        forget=trial.forget.value,
        retain=trial.retain.value,
        text=f"trial {trial.number}: {settings}",
        front=trial.front,
        chosen=trial.number == chosen,
    )
