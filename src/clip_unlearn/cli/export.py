"""`export` and `reembed`: an edit for other libraries, and for embeddings that are stored already."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clip_unlearn.cli import console
from clip_unlearn.cli.flags import stay_offline
from clip_unlearn.cli.models import PatchArgument
from clip_unlearn.cli.options import ForceOption, JsonOption, ModelOption, OfflineOption
from clip_unlearn.errors import SettingError

if TYPE_CHECKING:
    from clip_unlearn.core.model import Model
    from clip_unlearn.core.patch import Patch


def export(
    patch: PatchArgument,
    to: Annotated[str, typer.Option("--to", help="peft (adapter), hf or open_clip (edited checkpoint).")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the adapter or the checkpoint.")],
    model: ModelOption = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="For peft: cut dense changes to this rank; the error is stated.")
    ] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Write a patch as a PEFT adapter, or as an edited checkpoint of transformers or open_clip."""
    from clip_unlearn.runs import export as run

    base, loaded = _opened(patch, model, offline=offline)
    written = run.export(base, loaded, out, to=to, rank=rank, force=force)
    if as_json:
        console.show_json(written.model_dump(mode="json"))
        return
    console.show(f"{written.form}  {written.where}  ({written.digest[:12]}, {written.edit})")
    if written.missed > 0:
        console.show(f"left out by the lower rank: {100 * written.missed:.2g} % of the change")
    console.show(f"how to load it, and what still leaks: {out / 'README.md'}")


def reembed(
    patch: PatchArgument,
    embeddings: Annotated[
        Path, typer.Option("--embeddings", help="Stored embeddings: .npy, .parquet, or a clip-retrieval folder.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File or folder for the edited embeddings.")],
    model: ModelOption = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Column of a Parquet file; needed when several hold embeddings.")
    ] = None,
    side: Annotated[
        str, typer.Option("--side", help="What a file holds: image or text embeddings. A folder says it itself.")
    ] = "image",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """Apply a patch to stored embeddings, without the images, where the edit is one of the last layer."""
    from clip_unlearn.runs import reembed as run

    base, loaded = _opened(patch, model, offline=offline)
    with console.progress():
        written = run.reembed(base, loaded, embeddings, out, column=column, side=side, force=force)
    if as_json:
        console.show_json(written.model_dump(mode="json"))
        return
    for part in written.parts:
        kind = "normalised" if part.normalised else "not normalised"
        console.show(f"{part.name}  {part.rows} rows of {part.width} {part.dtype}, {kind}, {part.null} now null")
    console.show(f"embeddings  {written.where}")


def _opened(patch: str, model: str | None, *, offline: bool) -> "tuple[Model, Patch]":
    """Return the base model and the patch; without a model, the one the patch was made for."""
    stay_offline(offline)
    from clip_unlearn.core.patch import Patch
    from clip_unlearn.models.open import open_model

    loaded = Patch.from_pretrained(patch, local_files_only=offline)
    if model is not None:
        return open_model(model, offline=offline), loaded
    if loaded.origin is None:
        raise SettingError("The patch does not say which model it was made for. Give it with --model.")
    base = loaded.origin.base
    return open_model(base.where, revision=base.revision or None, offline=offline), loaded
