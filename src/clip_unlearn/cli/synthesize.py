"""`synthesize`: pictures that a model makes of names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import stay_offline
from clip_unlearn.cli.options import (
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    ResumeOption,
    TemplatesOption,
)
from clip_unlearn.errors import SettingError

if TYPE_CHECKING:
    from clip_unlearn.runs.manifest import Manifest


def synthesize(
    model: ModelOption = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="Name to make pictures of, 'name | synonym', or a file. Repeatable."),
    ] = None,
    retain: Annotated[
        list[str] | None,
        typer.Option("--retain", help="Name to tell pictures apart from, or a file; common nouns without. Repeatable."),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="Pictures of each name; 16 if not given.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Most steps of a picture; 60 if not given.")] = None,
    probability: Annotated[
        float | None,
        typer.Option("--probability", help="What accepted pictures exceed; by rule, from other names, if not given."),
    ] = None,
    templates: TemplatesOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for pictures and manifest.")] = Path("out/synthesize"),
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of noise and shifts.")] = None,
    device: DeviceOption = None,
    offline: OfflineOption = False,
    resume: ResumeOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make pictures of names from noise, as the model sees them: writes an image folder with a manifest."""
    stay_offline(offline)
    if model is None:
        raise SettingError("No model. Give one with --model, for example --model sandbox.")
    if not names:
        raise SettingError("No name. Give at least one with --name, for example --name mug.")
    from clip_unlearn.core.config import build
    from clip_unlearn.data.names import read_names
    from clip_unlearn.runs import synthesize as run
    from clip_unlearn.runs.manifest import Order

    given: dict[str, Any] = {"count": count, "steps": steps, "probability": probability}
    given |= {"templates": templates, "seed": seed}
    values = {
        "model": {"id": model, "offline": offline, **({} if device is None else {"device": device})},
        "names": [one for text in names for one in read_names(text)],
        "retain": [one for text in retain or () for one in read_names(text)],
        **{name: value for name, value in given.items() if value is not None},
    }
    with console.progress():
        manifest = run.synthesize(build(Order, values, where="synthesize"), out, force=force, resume=resume)
    if as_json:
        console.show_json(manifest.model_dump(mode="json"))
    else:
        _show(manifest, out)


def _show(manifest: "Manifest", out: Path) -> None:
    rows = []
    for made in manifest.made:
        steps = [picture.steps for picture in manifest.pictures if picture.name == made.name]
        alike = "" if made.diversity is None else f"{made.diversity:.3f}"
        rows.append([made.name, f"{made.accepted} of {made.pictures}", f"{sum(steps) / len(steps):.1f}", alike])
    console.show_rows(
        f"synthetic pictures by {manifest.model.where}", ("name", "accepted", "mean steps", "mean cosine"), rows
    )
    threshold = manifest.threshold
    told = f"probability above {threshold.value:.3f} among {manifest.classes} names"
    if threshold.names:
        told += f"; the rule took it from {threshold.pictures} pictures each of {', '.join(threshold.names)}"
    console.show(f"accepted  {told}")
    console.show(f"pictures  {out}")
    console.show(f"to look at  {out / 'contact.png'}")
    console.show(f"manifest  {out / 'manifest.json'}")
