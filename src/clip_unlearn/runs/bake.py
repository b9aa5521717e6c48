"""Turn a model and a patch into an ordinary checkpoint that the stock library opens."""

from pathlib import Path

from clip_unlearn.core.card import CARD_FILE, Card, render
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic
from clip_unlearn.runs.cards import open_clip_card, transformers_card


def bake(model: Model, patch: Patch, out: Path, *, force: bool = False) -> Source:
    """Write the edited checkpoint to `out` and return where it is, with the fingerprint of its weights.

    Raises:
        UnsupportedError: if part of the patch is a map that no weight of this family can hold.
        OutputError: if the folder has content and `force` is not set.
    """
    atomic.check_free(out, force=force)
    edited = baked(model, patch)
    with atomic.new_folder(out, force=force) as folder:
        edited.adapter.save(edited.module, folder)
        atomic.write_text(folder / CARD_FILE, render(_card(model, patch, edited.fingerprint)))
    return Source(where=str(out), digest=edited.fingerprint)


def baked(model: Model, patch: Patch) -> Model:
    """Return the edited model with the whole patch in its weights.

    Raises:
        UnsupportedError: if part of the patch is a map that no weight of this family can hold.
        WeightsError: if the patch was made for another model.
    """
    folded = patch.folded(model)
    if not folded.portable:
        towers = ", ".join(sorted(folded.outputs))
        raise UnsupportedError(
            f"The patch maps the output of the {towers} tower, which no weight of this model can hold. Keep the patch "
            "beside the model and apply it when the model is opened."
        )
    return folded.apply(model)


def _card(model: Model, patch: Patch, digest: str) -> Card:
    if model.adapter.family == "openclip":
        return open_clip_card(model, patch, digest)
    return transformers_card(model, patch, type(model.module).__name__, digest)
