"""Image files on the disk: listing them and reading them within limits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from clip_unlearn.data.classnames import from_words
from clip_unlearn.data.decode import ENCODED_LIMIT
from clip_unlearn.data.images import ImageSet, from_encoded
from clip_unlearn.errors import DataError

ENDINGS: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
"""Endings of image files, in lower case."""


@final
@dataclass(frozen=True, kw_only=True)
class Entry:
    """One image file and what its list says about it."""

    key: str
    path: Path
    label: str | None = None
    captions: tuple[str, ...] = ()


def is_image(name: str) -> bool:
    """Return whether the ending is one of an image and the file is not hidden."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def listed(where: str, entries: Sequence[Entry]) -> ImageSet:
    """Return the set of listed files, in their order; files are opened when asked for.

    Raises:
        DataError: if the list is empty, no file is there, some but not all have a label, or a class name is unusable.
    """
    if not entries:
        raise DataError(f"{where} lists no images. Add rows, or give another source.")
    if not any(entry.path.is_file() for entry in entries):
        raise DataError(
            f"{where}: none of the {len(entries)} listed files exists, not even '{entries[0].key}'. Check paths."
        )
    words = [entry.label for entry in entries if entry.label is not None]
    if words and len(words) != len(entries):
        bare = next(entry.key for entry in entries if entry.label is None)
        raise DataError(f"{where}: '{bare}' has no label and others have one. Label all images or none.")
    classes, labels = from_words(words, where)
    return from_encoded(
        where=where,
        keys=[entry.key for entry in entries],
        read=lambda index: read_image(entries[index].path, entries[index].key),
        classes=classes,
        labels=labels,
        captions=[entry.captions for entry in entries],
    )


def read_image(path: Path, key: str, *, start: int = 0, size: int = ENCODED_LIMIT + 1) -> bytes:
    """Return the encoded bytes of an image, of one byte more than allowed when it is too large.

    Raises:
        DataError: "key: reason" if the file is missing, not an ordinary file or unreadable.
    """
    if not path.is_file():
        raise DataError(f"{key}: no such file. Correct the list or restore the file.")
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(min(size, ENCODED_LIMIT + 1))
    except OSError as error:
        raise DataError(f"{key}: cannot be read ({error.strerror or error}). Check the file.") from error


def read_text(path: Path, *, limit: int) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: if it is unreadable, larger than `limit` bytes, holds NUL or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). Check the file.") from error
    if len(content) > limit:
        raise DataError(f"{path} is larger than {limit // 1_000_000} MB. Give a smaller file.")
    return as_text(content, str(path))


def as_text(content: bytes, where: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark.

    Raises:
        DataError: if they are not UTF-8 or hold NUL.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    if "\0" in text:
        raise DataError(f"{where} holds NUL characters, so it is not text. Give a text file.")
    return text


def readable(name: str) -> str:
    """Return a file name that UTF-8 can hold: bytes that are not Unicode become escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")
