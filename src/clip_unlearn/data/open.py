"""One door to images, whatever they are stored in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from clip_unlearn.data import splits, world
from clip_unlearn.data.folder import open_folder
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.parquet import open_parquet
from clip_unlearn.data.selection import is_selection, open_selection
from clip_unlearn.data.shards import holds_shards, open_shards
from clip_unlearn.data.table import open_table
from clip_unlearn.errors import DataError, UnknownNameError, nearest
from clip_unlearn.files import paths

Split: TypeAlias = Literal["all"] | splits.Part

SOURCES: Final[dict[str, str]] = {
    "sandbox": "the embedded world: 28 classes as photos, paintings and sketches",
    "sandbox:<domain>": "one domain of it: photo, painting or sketch",
    "<folder>": "<class>/<image>, or images with metadata.jsonl or metadata.csv (file_name, text)",
    "<file>.parquet": "Hugging Face images: image, label, domain, captions",
    "<file>.csv, <file>.tsv": "filepath with label, caption or title",
    "<file>.tar, <folder of .tar>": "WebDataset shards: image with .cls, .txt or .json",
    "<folder of find>, find.json": "images that `find` chose, labelled with the concept or another name",
    "<any of these>@<split>": "a disjoint part of it: stop, select or audit",
}
"""Every kind of source, and what it holds."""

_WAY_OUT: Final = f"Use one of: {'; '.join(list(SOURCES)[:-1])}."

_KNOWN: Final[ContextVar[dict[tuple[str, Split], ImageSet] | None]] = ContextVar("sets that are open", default=None)


def open_data(where: str, *, split: Split = "all") -> ImageSet:
    """Return the images at `where`, or one of their three disjoint parts.

    `sandbox` is the embedded world: its own stop, select and audit streams, and the audit stream for `all`. Everything
    else is a file or folder; its parts are made by `splits.split`. The part can also end `where`, as in
    `photos@select`, and the set's own `where` has this form, so that it opens the same images again.

    Raises:
        UnknownNameError: if `where` is neither a path that exists nor a known name.
        DataError: if what is there cannot be used as images, or `where` names one part and `split` another.
        UnsupportedError: if reading it needs a library that is not installed.
    """
    known, key = _KNOWN.get(), (where, split)
    if known is None:
        return _opened(where, split)
    if key not in known:
        known[key] = _opened(where, split)
    return known[key]


@contextmanager
def opened_once(held: Mapping[str, ImageSet] = MappingProxyType({})) -> Iterator[None]:
    """Open every source once while the context lasts: what is asked for again is the same set, digests and all.

    `held` are sets that are open already, under names of their own; what was opened outside is not known inside.
    """
    token = _KNOWN.set({(where, "all"): images for where, images in held.items()})
    try:
        yield
    finally:
        _KNOWN.reset(token)


def _opened(where: str, split: Split) -> ImageSet:
    source, part = _parted(where, split)
    if source.partition(":")[0] == world.NAME:
        images = world.open_world(source, stream="audit" if part == "all" else part)
    else:
        images = _open_path(_existing(source), source)
        images = images if part == "all" else splits.split(images, part)
    return images if part == "all" else replace(images, where=f"{source}@{part}")


def another_part(where: str, part: splits.Part) -> str:
    """Return how a disjoint part of a source is named, whichever part of it `where` names."""
    return f"{_parted(where, 'all')[0]}@{part}"


def _parted(where: str, split: Split) -> tuple[str, Split]:
    source, _, ending = where.rpartition("@")
    part: splits.Part | None = next((each for each in get_args(splits.Part) if each == ending), None)
    if part is None or not source:
        return where, split
    if split not in ("all", part):
        raise DataError(f"{where} names the part '{part}' and the split is '{split}'. Give one of them.")
    return source, part


def _existing(where: str) -> Path:
    if not where.strip():
        raise DataError(f"The data source is empty. {_WAY_OUT}")
    bare = where.replace("-", "").replace("_", "").replace(":", "").isalnum()
    if bare and not Path(where).exists():
        raise UnknownNameError(f"No data source '{where}'.{nearest(where, [world.NAME])} {_WAY_OUT}")
    return paths.existing(where, what="Data")


def _open_path(path: Path, where: str) -> ImageSet:
    if is_selection(path):
        return open_selection(path, where, open_data)
    if path.is_dir():
        return open_shards(path, where) if holds_shards(path) else open_folder(path, where)
    doors = {".parquet": open_parquet, ".csv": open_table, ".tsv": open_table, ".tar": open_shards}
    door = doors.get(path.suffix.lower())
    if door is None or not path.is_file():
        raise DataError(f"{where} is not a kind of data that can be opened. {_WAY_OUT}")
    return door(path, where)
