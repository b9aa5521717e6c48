"""How an adapter and its readers name the base model: by hub, folder, open_clip name, or a copy inside the adapter."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from clip_unlearn.core.card import hub_id, shared
from clip_unlearn.core.model import Model
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.models.peft_files import Base
from clip_unlearn.sandbox import bundle

COPY: Final = "base"
"""Folder inside an adapter that holds a copy of an embedded model, which has no address of its own."""


@final
@dataclass(frozen=True, kw_only=True)
class Reference:
    """The base model as a configuration and as Python name it."""

    base: Base
    arguments: str
    """Arguments of the library's own loading call; `folder` is the adapter's folder."""

    copied: bool = False
    """True when the adapter folder holds a copy of it."""


def reference(model: Model, out: Path) -> Reference:
    """Return how an adapter at `out` names its base model.

    A hub model is named by id and revision, a folder by the path it was opened with. Embedded models lie inside this
    package, where no one else looks: they are named by the copy that goes into the adapter's folder.

    Raises:
        UnsupportedError: if the model was given as a loaded module, of which no one knows where it is.
    """
    where, revision = model.source.where, model.source.revision
    prefix = "local-dir:" if model.adapter.family == "openclip" else ""
    if bundle.folder(where) is not None:
        return Reference(base=Base(where=str(out / COPY)), arguments=f'f"{prefix}{{folder}}/{COPY}"', copied=True)
    name = hub_id(model.source)
    if name:
        pinned = f", revision={json.dumps(revision)}" if revision and not prefix else ""
        prefix = "hf-hub:" if prefix else ""
        return Reference(base=Base(where=name, revision=revision), arguments=f"{json.dumps(prefix + name)}{pinned}")
    if where.startswith("openclip:"):
        return _published(model, where.removeprefix("openclip:"))
    folder = Path(where.removeprefix("local-dir:").removeprefix("hf:")).expanduser()
    if not folder.is_dir():
        raise UnsupportedError(f"No one knows where '{where}' is. Open the model by folder or hub id to export it.")
    return Reference(base=Base(where=str(folder)), arguments=json.dumps(f"{prefix}path/to/{shared(str(folder))}"))


def copy_base(model: Model, folder: Path) -> None:
    """Copy an embedded model into the folder of its adapter."""
    source = bundle.folder(model.source.where)
    if source is not None:
        shutil.copytree(source, folder / COPY)


def _published(model: Model, name: str) -> Reference:
    architecture, _, tag = name.partition(",")
    quick = any(type(part).__name__ == "QuickGELU" for part in model.module.modules())
    forced = ", force_quick_gelu=True" if quick else ""
    arguments = f"{json.dumps(architecture)}, pretrained={json.dumps(tag)}{forced}"
    return Reference(base=Base(where=name, revision=model.source.revision), arguments=arguments)
