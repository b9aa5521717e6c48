"""A patch in the forms of other libraries: a PEFT adapter, or an edited checkpoint of transformers or open_clip."""

from pathlib import Path
from typing import Literal, TypeAlias, final, get_args

from clip_unlearn.core.card import CARD_FILE, render
from clip_unlearn.core.config import Config
from clip_unlearn.core.disclosure import leaks
from clip_unlearn.core.embedding_map import reach
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Edit
from clip_unlearn.errors import SettingError, UnknownNameError, nearest
from clip_unlearn.files import atomic
from clip_unlearn.models import convert, peft_files
from clip_unlearn.runs.bake import bake, baked
from clip_unlearn.runs.bases import copy_base, reference
from clip_unlearn.runs.cards import adapter_card, open_clip_card, transformers_card

Form: TypeAlias = Literal["peft", "hf", "open_clip"]
FORMS: tuple[str, ...] = get_args(Form)

_SENTENCES = ("a photo of a dog.", "A drawing of two red chairs, isn't it?")
"""Tried on both libraries beside the names of the request."""


@final
class Exported(Config):
    """What was written."""

    where: str
    form: Form
    edit: Edit
    """suppress for an adapter, which needs the base model; erase for a checkpoint."""

    digest: str
    """Fingerprint of the written checkpoint; for an adapter, of the base model with the patch applied."""

    leaks: tuple[str, ...]
    """What still gives the forgotten away, in plain sentences."""

    missed: float = 0.0
    """Share of the change that an adapter of low rank leaves out; 0 but for dense changes."""


def export(model: Model, patch: Patch, out: Path, *, to: str, rank: int | None = None, force: bool = False) -> Exported:
    """Write a patch in another library's form to the folder `out` and return what was written.

    `peft` is an adapter for the base model; `hf` and `open_clip` are edited checkpoints, of the model's own library
    or converted where the other one has the same architecture and gives the same embeddings. `rank` cuts dense
    changes to an adapter of that rank.

    Raises:
        UnknownNameError: if there is no such form.
        SettingError: if `rank` is not positive, or given for a checkpoint.
        UnsupportedError: if the form cannot hold the edit, with the reason and the way out.
        WeightsError: if the patch was made for another model.
        OutputError: if the folder has content and `force` is not set.
    """
    if to not in FORMS:
        raise UnknownNameError(f"Cannot export to '{to}'.{nearest(to, FORMS)} Known: {', '.join(FORMS)}.")
    if rank is not None and (rank < 1 or to != "peft"):
        raise SettingError(f"--rank {rank} is not usable: it is a number from 1 and belongs to --to peft. Change it.")
    atomic.check_free(out, force=force)
    if to == "peft":
        return _adapter(model, patch, out, rank=rank, force=force)
    own = "open_clip" if model.adapter.family == "openclip" else "hf"
    if to == own:
        digest = bake(model, patch, out, force=force).digest
    else:
        digest = _converted(model, patch, out, to=to, force=force)
    form: Form = "hf" if to == "hf" else "open_clip"
    told = leaks(reach(patch, model), "erase")
    return Exported(where=str(out), form=form, edit="erase", digest=digest, leaks=told)


def _adapter(model: Model, patch: Patch, out: Path, *, rank: int | None, force: bool) -> Exported:
    digest = patch.apply(model).fingerprint  # first of all: says so if the patch is for another model
    parts, base = peft_files.parts(model, patch, rank=rank), reference(model, out)
    card = adapter_card(model, patch, parts, base, digest)
    with atomic.new_folder(out, force=force) as folder:
        peft_files.write(folder, parts, base.base, model.module)
        copy_base(model, folder)
        atomic.write_text(folder / CARD_FILE, render(card))
    missed = max(part.missed for part in parts)
    told = leaks(card.reach, card.edit)
    return Exported(where=str(out), form="peft", edit=card.edit, digest=digest, leaks=told, missed=missed)


def _converted(model: Model, patch: Patch, out: Path, *, to: str, force: bool) -> str:
    edited = baked(model, patch)
    names = patch.origin.request.forget_names if patch.origin else ()
    sentences = [*_SENTENCES, *(f"a photo of a {name}." for name in names)]
    with atomic.new_folder(out, force=force) as folder:
        if to == "hf":
            written = convert.write_transformers(edited, folder, sentences)
            card = transformers_card(model, patch, "CLIPModel", written.fingerprint)
        else:
            written = convert.write_open_clip(edited, folder, sentences)
            card = open_clip_card(model, patch, written.fingerprint)
        atomic.write_text(folder / CARD_FILE, render(card))
    return written.fingerprint
