"""Images that `find` chose, as labelled data: the concept, other names, and what lies between left out. Torch-free."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, final

from pydantic import BaseModel, ConfigDict, ValidationError

from clip_unlearn.core.config import Config
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Concept
from clip_unlearn.data.classnames import displayed
from clip_unlearn.data.entries import read_text
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import DataError, RequestError

FILE: Final = "find.json"
"""Name of the file in the folder that `find` writes."""

LIMIT: Final = 2_000_000_000
"""Most bytes of it."""


@final
class FoundImage(Config):
    """One image that was looked at."""

    key: str
    """Its name in the data."""

    probability: float
    """Calibrated probability that it shows the concept, in [0, 1]."""

    chosen: bool
    other: str
    """The other name that scores highest on it."""

    label: str | None
    """What it counts as when the selection is opened as data: the concept for those chosen, the other name where the
    concept is improbable, None for those between, which are left out."""


@final
class Selection(BaseModel):
    """The part of the file that says which images are what."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["clip-unlearn find"]
    schema_version: Literal[1]
    concept: Concept
    data: Source
    """The images that were looked at, with the digest of their content."""

    images: tuple[FoundImage, ...]


def is_selection(path: Path) -> bool:
    """Return whether a path is what `find` wrote: the folder, or the file in it, or another JSON file."""
    return (path / FILE).is_file() if path.is_dir() else path.suffix.lower() == ".json"


def names_selection(where: str) -> bool:
    """Return whether a data source, with or without a part at its end, is a selection."""
    return any(is_selection(Path(one)) for one in (where, where.rpartition("@")[0]) if one)


def open_selection(path: Path, where: str, open_data: Callable[[str], ImageSet]) -> ImageSet:
    """Return the images of a selection that have a label, in the order of the data they come from.

    The classes are the concept, then the other names, alphabetical. Captions are dropped: they would say what the
    labels do not. `open_data` opens the data that was looked at.

    Raises:
        DataError: if the file is none of `find`, or the data is not there any more, has changed, or is itself a
            selection.
    """
    selection = read_selection(path)
    source = selection.data.where
    if names_selection(source):
        raise DataError(f"{where} was found in {source}, which is a selection too. Find it in the images themselves.")
    images = open_data(source)
    if images.digest != selection.data.digest:
        raise DataError(f"{where}: {source} has changed since. Run find again, or restore the images of then.")
    rows = {key: row for row, key in enumerate(images.keys)}
    labelled = {one.key: one.label for one in selection.images if one.label is not None}
    missing = next((key for key in labelled if key not in rows), None)
    if missing is not None:
        raise DataError(f"{where} speaks of '{missing}', which {source} does not have. Run find again.")
    return _labelled(images, {rows[key]: label for key, label in labelled.items()}, selection.concept.name, where)


def read_selection(path: Path) -> Selection:
    """Return what the folder or file of a selection says.

    Raises:
        DataError: if it is none of `find`.
    """
    file = path / FILE if path.is_dir() else path
    text = read_text(file, limit=LIMIT)
    try:
        return Selection.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"]) or "top level"
        raise _none_of_find(file, f"{place}: {problem['msg']}") from error
    except RequestError as error:
        raise _none_of_find(file, str(error)) from error


def _none_of_find(file: Path, reason: str) -> DataError:
    return DataError(f"{file} is not a result of find ({reason.rstrip('.')}). Give the folder that find wrote.")


def _labelled(images: ImageSet, labels: dict[int, str], concept: str, where: str) -> ImageSet:
    if concept not in labels.values():
        raise DataError(f"{where} has no image that counts as '{concept}'. Run find again.")
    classes = (concept, *sorted(set(labels.values()) - {concept}))
    rows = sorted(labels)
    some = images.take(rows)
    return ImageSet(
        where=where,
        keys=some.keys,
        classes=displayed(classes, where),
        labels=tuple(classes.index(labels[row]) for row in rows),
        domains=some.domains,
        picture=some.picture,
        content=some.content,
    )
