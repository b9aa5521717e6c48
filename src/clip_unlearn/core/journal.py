"""Long work in steps that an interrupted run does not repeat; without a journal, steps are just computed."""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from torch import Tensor

from clip_unlearn.core.processes import is_main
from clip_unlearn.errors import WeightsError
from clip_unlearn.files import digest, tensors

VERSION: Final = 1
"""Version of what a step stands for; part of its file name."""

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_resumes: ContextVar[bool] = ContextVar("resumes", default=False)


def step(key: object, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return what `compute` gives, or what an earlier run gave for the same key, bit for bit.

    `key` is JSON-able and names everything that the result depends on: weights by fingerprint, settings, seed, place in
    the sequence. Tensors come back on the CPU and without gradients, from both ways.

    Raises:
        StorageError: if the disk refuses to hold the step.
    """
    folder = _folder.get()
    path = None if folder is None else _path(folder, key)
    if path is not None and path.is_file():
        # A step that was damaged on the disk is computed again: it is a copy of work, never the only one.
        with contextlib.suppress(WeightsError, OSError):
            return tensors.read(path)
    found = {name: value.detach().cpu().contiguous() for name, value in compute().items()}
    if path is not None:
        tensors.write(path, found)
    return found


@contextlib.contextmanager
def journaling(folder: Path, *, resume: bool) -> Iterator[None]:
    """Write the steps of this block into `folder`, which goes when the block ends well and stays when it does not.

    With `resume` the steps that are there already are not computed again; without it they are removed first.

    Raises:
        StorageError: if the disk refuses.
    """
    if not resume and is_main():
        shutil.rmtree(folder, ignore_errors=True)
    token, resumes = _folder.set(folder), _resumes.set(resume)
    try:
        yield
    finally:
        _folder.reset(token)
        _resumes.reset(resumes)
    if is_main():
        shutil.rmtree(folder, ignore_errors=True)


def active() -> bool:
    """Return whether steps of this context are written."""
    return _folder.get() is not None


def last(keys: Sequence[object]) -> tuple[int, dict[str, Tensor]] | None:
    """Return the place and the result of the last of these steps that can be read, or None.

    For long loops whose every state follows from the one before: only the newest is needed, see `keep`. None also in a
    run that does not go on from an earlier one, whose steps may still be there for a moment: all processes of a launch
    have to start such a loop at the same place.
    """
    folder = _folder.get()
    if folder is None or not _resumes.get():
        return None
    for place in range(len(keys) - 1, -1, -1):
        path = _path(folder, keys[place])
        if path.is_file():
            with contextlib.suppress(WeightsError, OSError):
                return place, tensors.read(path)
    return None


def keep(key: object, found: Mapping[str, Tensor], *, instead_of: object = None) -> None:
    """Write the result of a step, and remove that of the step whose place it takes; without a journal, nothing.

    Raises:
        StorageError: if the disk refuses to hold the step.
    """
    folder = _folder.get()
    if folder is None:
        return
    tensors.write(_path(folder, key), {name: value.detach().cpu().contiguous() for name, value in found.items()})
    if instead_of is not None:
        _path(folder, instead_of).unlink(missing_ok=True)


def _path(folder: Path, key: object) -> Path:
    return folder / f"{digest.of_json([VERSION, key])}.safetensors"
