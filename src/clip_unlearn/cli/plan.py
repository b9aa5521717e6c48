"""`plan`: what an edit would do, before it is made."""

from typing import TYPE_CHECKING, Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import merged, stay_offline
from clip_unlearn.cli.options import (
    BackgroundOption,
    BudgetOption,
    DataOption,
    DeviceOption,
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
    SplitOption,
    TemplatesOption,
)
from clip_unlearn.errors import SettingError

if TYPE_CHECKING:
    from clip_unlearn.runs.preview import Move, Preview


def plan(
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
    templates: TemplatesOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    recipe: RecipeOption = None,
    top: Annotated[int, typer.Option("--top", help="How many classes to show; --json has all.")] = 20,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """List which retained classes `forget` would move, and by how much; writes nothing."""
    if top < 1:
        raise SettingError(f"--top {top} shows nothing. Give at least 1.")
    stay_offline(offline)
    from clip_unlearn.core.config import build
    from clip_unlearn.runs.preview import preview
    from clip_unlearn.runs.recipe import Recipe

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
        "templates": templates,
        "seed": seed,
        "device": device,
        "offline": offline or None,
    }
    values = merged(recipe, flags)
    with console.progress():
        found = preview(build(Recipe, values, where="recipe"))
    if as_json:
        console.show_json(found.model_dump(mode="json"))
    else:
        _show(found, top)


def _show(found: "Preview", top: int) -> None:
    console.show(f"model     {found.model.where}")
    for concept in found.forget:
        others = (("also", concept.synonyms), ("found", concept.found))
        told = "; ".join(f"{how}: {', '.join(names)}" for how, names in others if names)
        console.show(f"forget    {concept.name}{f' ({told})' if told else ''}")
    console.show(f"retain    {found.retained} names, background {found.background} names")
    console.show(f"method    {found.method}: {', '.join(f'{name}={value}' for name, value in found.settings.items())}")
    for reading in found.readings:
        points = [100 * number for number in (reading.value, reading.low, reading.high)]
        figures = f"{points[0]:+.2f} points ({points[1]:+.2f} to {points[2]:+.2f})"
        console.show(f"budget    {reading.name} {figures}, {reading.interval}, n={reading.count}")
    if found.reason:
        console.show(f"nothing would change: {found.reason}")
    console.show_rows(
        "margins of retained classes",
        ("class", "before", "after", "predicted", *(("measured", "accuracy", "pictures") if found.data else ())),
        [_row(move, measured=found.data is not None) for move in found.moves[:top]],
    )
    console.show(
        f"{min(top, len(found.moves))} of {len(found.moves)} classes, those that move most; nothing was written"
    )
    if found.data is None:
        console.show("names stand in for pictures here; with --data it is measured how far that can be trusted")
    else:
        console.show(_agreement(found))


def _row(move: "Move", *, measured: bool) -> list[str]:
    figures = [f"{move.before:.3f}", f"{move.after:.3f}", f"{move.predicted:+.3f}"]
    if move.measured is not None and move.accuracy is not None:
        figures += [f"{move.measured:+.3f}", f"{100 * move.accuracy:+.1f} pt", str(move.pictures)]
    elif measured:
        figures += ["", "", "0"]
    return [move.name, *figures]


def _agreement(found: "Preview") -> str:
    if found.agreement is None:
        return "rank correlation of predicted and measured: not defined, it takes 3 classes that move differently"
    value, count, chance = found.agreement.value, found.agreement.count, found.agreement.p_value
    return f"rank correlation of predicted and measured: {value:.2f} (Spearman, n={count} classes, p={chance:.2g})"
