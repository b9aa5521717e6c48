"""Names of classes as a user gives them: one by one, or one per line of a file."""

from pathlib import Path
from typing import Final

from clip_unlearn.core.request import Concept, clean_name
from clip_unlearn.data.entries import read_text
from clip_unlearn.errors import DataError, RequestError

NAMES_LIMIT: Final = 10_000_000
"""Most bytes of a file of names."""


def read_names(text_or_file: str) -> tuple[str, ...]:
    """Return the names in a text file, one per line and blank lines skipped, or the name itself.

    It is a file when it ends in `.txt`, or when it names a file that is there by a path with a folder or an ending; so
    a file `mug` beside the user does not stand in for the name "mug".

    Raises:
        DataError: if the file is missing, empty or not UTF-8, or one of its names cannot be used.
        RequestError: if the name itself is empty, too long or holds control characters or braces.
    """
    if not _is_file(text_or_file):
        return (clean_name(text_or_file),)
    path = Path(text_or_file).expanduser()
    names = []
    for number, line in enumerate(read_text(path, limit=NAMES_LIMIT).split("\n"), start=1):
        if line.strip():
            names.append(_clean(line.strip(), f"{path} line {number}"))
    if not names:
        raise DataError(f"{path} holds no names. Write one name per line.")
    return tuple(names)


def parse_concept(text: str) -> Concept:
    """Return the concept of a name and its synonyms, separated by `|`: "mug | beaker | cup".

    Raises:
        RequestError: if a name is empty, too long, or holds control characters or braces.
    """
    return Concept.model_validate(text)


def _is_file(text: str) -> bool:
    if not text.isprintable():
        return False
    if text.lower().endswith(".txt"):
        return True
    path = Path(text).expanduser()
    if path.name == text and not path.suffix:
        return False
    try:
        return path.is_file()
    except OSError:
        return False  # Too long for a file name, for one.


def _clean(name: str, place: str) -> str:
    try:
        return clean_name(name)
    except RequestError as error:
        raise DataError(f"{place}: {error}") from error
