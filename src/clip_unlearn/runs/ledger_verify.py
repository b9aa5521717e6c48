"""Checking that a patch or checkpoint is what a ledger composes."""

import tempfile
from pathlib import Path
from typing import Final, Literal

from clip_unlearn.core import patch_files
from clip_unlearn.core.ledger import Ledger
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Origin
from clip_unlearn.core.request import Request
from clip_unlearn.errors import DataError, WeightsError
from clip_unlearn.files import digest
from clip_unlearn.files.paths import existing
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.ledger_patch import BaseSource, check_manifest, joint_patch, open_base

_RESTORE: Final = "Restore the ledger from a copy."
_AGAIN: Final = "Compose it again."


def verify_patch(ledger: Ledger, patch: Path, *, model: BaseSource | None = None) -> Literal["patch", "checkpoint"]:
    """Check that a patch folder or baked checkpoint is what the ledger composes, and return which of them it is.

    The joint edit is computed again: the tensors of a patch must have the same bytes, a checkpoint the same
    fingerprint as the edited model. `model` is where the base model is now, if it has moved.

    Raises:
        DataError: naming the first thing that is not as it should be.
        WeightsError: if the base model is another, or the patch or checkpoint is missing or damaged.
    """
    folder = existing(patch, what="Patch or checkpoint", kind=WeightsError)
    check_manifest(ledger, folder, way=_RESTORE)
    base = open_base(ledger, model=model)
    due = joint_patch(ledger, model=base)
    if (folder / patch_files.DESCRIPTION_FILE).is_file():
        _check_patch(folder, due, base)
        return "patch"
    _check_checkpoint(folder, due, base)
    return "checkpoint"


def _check_patch(folder: Path, due: Patch, base: Model) -> None:
    found = Patch.from_pretrained(folder)
    if due.origin is not None:
        _check_origin(found.origin, due.origin, folder)
    with tempfile.TemporaryDirectory() as again:
        due.write(Path(again))
        digests = [digest.of_file(where / patch_files.TENSORS_FILE) for where in (folder, Path(again))]
    if digests[0] != digests[1]:
        raise DataError(_other_numbers(folder, found.apply(base), due.apply(base), base))


def _check_checkpoint(folder: Path, due: Patch, base: Model) -> None:
    found, edited = open_model(folder), due.apply(base)
    if found.fingerprint != edited.fingerprint:
        raise DataError(_other_numbers(folder, found, edited, base))


def _check_origin(found: Origin | None, due: Origin, folder: Path) -> None:
    if found is None:
        raise DataError(f"{folder} does not say what it forgets, so the ledger did not compose it. {_AGAIN}")
    if found.request != due.request:
        raise DataError(f"{folder} is not of the live requests: {_difference(found.request, due.request)}. {_AGAIN}")
    if (found.method, found.settings) != (due.method, due.settings):
        raise DataError(f"{folder} was made by method {found.method} with other settings than the ledger's. {_AGAIN}")


def _other_numbers(folder: Path, found: Model, due: Model, base: Model) -> str:
    """Return the message for weights that are not those of the ledger, with how far apart they are."""
    shapes = [{name: weight.shape for name, weight in model.weights.items()} for model in (found, due)]
    apart = "which has other weights altogether"
    if shapes[0] == shapes[1] and found.outputs.keys() == due.outputs.keys():
        error, change = _largest_difference(found, due), _largest_difference(due, base)
        apart = f"but differs by up to {error:.0e} in a weight, where the edit changes up to {change:.0e}"
    return (
        f"{folder} is not what the ledger composes here, {apart}. {_AGAIN} Far smaller differences than the edit come "
        "from another machine, number of threads or library version."
    )


def _largest_difference(one: Model, other: Model) -> float:
    return max(
        float((weight.detach().double() - other.weights[name].detach().double()).abs().max())
        for name, weight in one.weights.items()
    )


def _difference(found: Request, due: Request) -> str:
    names = [{name for concept in request.forget for name in concept.names} for request in (found, due)]
    extra, missing = names[0] - names[1], names[1] - names[0]
    parts = [f"it does not forget {_some(missing)}"] if missing else []
    parts += [f"it also forgets {_some(extra)}"] if extra else []
    return ", and ".join(parts) or "it retains other names, or has other templates or another seed"


def _some(names: set[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{name}'" for name in sorted(names)[:3]) + more
