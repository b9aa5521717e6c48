"""`apply` and `evaluate`: use a patch, measure a model."""

from pathlib import Path
from typing import Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import stay_offline
from clip_unlearn.cli.options import ForceOption, JsonOption, ModelOption, OfflineOption, OtherDataOption, SplitOption
from clip_unlearn.errors import SettingError

PatchArgument = Annotated[str, typer.Option("--patch", help="Patch folder or hub id.")]


def apply(
    patch: PatchArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the edited checkpoint.")],
    model: ModelOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Bake a patch into an ordinary checkpoint that the stock library opens."""
    stay_offline(offline)
    from clip_unlearn.core.patch import Patch
    from clip_unlearn.models.open import open_model
    from clip_unlearn.runs.bake import bake

    loaded = Patch.from_pretrained(patch, local_files_only=offline)
    where = model or (loaded.origin.base.where if loaded.origin else "")
    if not where:
        raise SettingError("The patch does not say which model it was made for. Give it with --model.")
    written = bake(open_model(where, offline=offline), loaded, out, force=force)
    if as_json:
        console.show_json(written.model_dump(mode="json"))
    else:
        console.show(f"checkpoint  {written.where}  ({written.digest[:12]})")


def evaluate(
    model: Annotated[str, typer.Option("--model", help="Folder, hub id, openclip:NAME,WEIGHTS, or sandbox.")],
    data: Annotated[str, typer.Option("--data", help="Labelled images: folder, Parquet, CSV, shards, or sandbox.")],
    patch: Annotated[str | None, typer.Option("--patch", help="Patch to compare with the model as it is.")] = None,
    split: SplitOption = None,
    other_data: OtherDataOption = None,
    templates: Annotated[str, typer.Option("--templates", help="Template set, file, or sentence with {}.")] = "photo",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure zero-shot accuracy of a model, or of a model before and after a patch."""
    stay_offline(offline)
    from clip_unlearn.core.config import build
    from clip_unlearn.core.patch import Patch
    from clip_unlearn.models.open import open_model
    from clip_unlearn.prompts.expand import templates as template_set
    from clip_unlearn.runs.evaluate import compare, zero_shot
    from clip_unlearn.runs.recipe import DataChoice

    if other_data and patch is None:
        raise SettingError("--other-data tells what a patch costs. Give one with --patch.")
    choice = build(DataChoice, {"path": data, "split": split or "all"}, where="--data")
    sentences = template_set(templates)
    with console.progress():
        opened = open_model(model, offline=offline)
        loaded = None if patch is None else Patch.from_pretrained(patch, local_files_only=offline)
        if loaded is None or loaded.origin is None:
            edited = opened if loaded is None else loaded.apply(opened)
            readings = zero_shot(edited, choice.path, templates=sentences, split=choice.split)
        else:
            readings = compare(
                opened, loaded.apply(opened), loaded.origin.request, data=choice, others=other_data or ()
            )
    if as_json:
        console.show_json([reading.model_dump(mode="json") for reading in readings])
    else:
        console.show_readings(f"{model} on {data}", readings)
