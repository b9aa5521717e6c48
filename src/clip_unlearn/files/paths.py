"""Paths that a user or a file names, checked before they are opened."""

import os
import unicodedata
from pathlib import Path

from clip_unlearn.errors import DataError, InputError


def existing(where: str | Path, *, what: str, kind: type[InputError] = DataError) -> Path:
    """Return the path if something is there.

    Raises:
        InputError: of the given kind, naming `what` was looked for, if nothing is there.
    """
    text = str(where)
    if "\0" in text:
        raise kind(f"{what} path holds a NUL character. Give an ordinary path.")
    path = Path(text).expanduser()
    if not path.exists():
        raise kind(f"{what} {text} does not exist. Check the path.")
    return path


def inside(folder: Path, name: str) -> Path:
    """Return the file `name` below `folder`, refusing every way out of it.

    Raises:
        DataError: if the name is empty, absolute, holds NUL or half a character, or leads outside, also through links.
    """
    text = unicodedata.normalize("NFC", name)
    if not text or "\0" in text or _has_surrogate(text) or Path(text).is_absolute():
        raise DataError(f"{name!r} is not a file name below {folder}. Use paths relative to it.")
    path = Path(os.path.realpath(folder / text))
    if not path.is_relative_to(os.path.realpath(folder)):
        raise DataError(f"{name!r} leads out of {folder}. Use paths below it.")
    return path


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def cache_folder() -> Path:
    """Return the folder of cached embeddings: $CLIP_UNLEARN_CACHE, else $XDG_CACHE_HOME or ~/.cache, clip-unlearn."""
    own = os.environ.get("CLIP_UNLEARN_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "clip-unlearn"
