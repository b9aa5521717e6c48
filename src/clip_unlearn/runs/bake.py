"""Turn a model and a patch into an ordinary checkpoint that the stock library opens."""

from pathlib import Path

from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic


def bake(model: Model, patch: Patch, out: Path, *, force: bool = False) -> Source:
    """Write the edited checkpoint to `out` and return where it is, with the fingerprint of its weights.

    Raises:
        UnsupportedError: if part of the patch is a map that no weight of this family can hold.
        OutputError: if the folder has content and `force` is not set.
    """
    atomic.check_free(out, force=force)
    folded = patch.folded(model)
    if not folded.portable:
        towers = ", ".join(sorted(folded.outputs))
        raise UnsupportedError(
            f"The patch maps the output of the {towers} tower, which no weight of this model can hold. Keep the patch "
            "beside the model and apply it when the model is opened."
        )
    edited = folded.apply(model)
    with atomic.new_folder(out, force=force) as folder:
        edited.adapter.save(edited.module, folder)
        patch_card = f"# Edited checkpoint\n\nBase: {model.source.where}. See the patch for what was changed.\n"
        if not (folder / "README.md").exists():
            atomic.write_text(folder / "README.md", patch_card)
    return Source(where=str(out), digest=edited.fingerprint)
