"""Images in a folder: `<class>/*.jpg`, or plain files with or without a metadata list."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from clip_unlearn.data import table
from clip_unlearn.data.entries import ENDINGS, Entry, is_image, listed, read_text, readable
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import DataError

_SPLIT_NAMES: Final = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}


def open_folder(folder: Path, where: str) -> ImageSet:
    """Return the images of a folder.

    With `metadata.jsonl` or `metadata.csv` it is the images these list (`file_name`, and `text` or `label`); with
    folders inside, each is a class of that name and holds its images at any depth; else all files are unlabelled.

    Raises:
        DataError: if there are no images, a list is malformed, the folders are splits instead of classes, images lie
            beside the class folders, or a link leads out of the folder.
    """
    for name in ("metadata.jsonl", "metadata.csv"):
        if (folder / name).is_file():
            return _with_metadata(folder, folder / name, where)
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {name: sorted(_images(folder, folder / name)) for name in inner}
    classes = [name for name in inner if found[name]]
    loose = sorted(name for name in os.listdir(folder) if is_image(name))
    if not classes and not loose:
        raise DataError(f"{where} holds no images ({', '.join(ENDINGS)}). Give a folder of <class>/<image>.")
    if not classes:
        return listed(where, [_entry(folder, name, None) for name in loose])
    if loose:
        raise DataError(f"{where}: '{readable(loose[0])}' lies beside the class folders. Move it into one of them.")
    if all(name.lower() in _SPLIT_NAMES for name in classes):
        raise DataError(f"{where} holds splits ({', '.join(classes)}), not classes. Give {folder / classes[0]}.")
    return listed(where, [_entry(folder, name, label) for label in classes for name in found[label]])


def _images(folder: Path, start: Path) -> Iterator[str]:
    for place, folders, files in os.walk(start):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if is_image(name):
                yield (Path(place) / name).relative_to(folder).as_posix()


def _entry(folder: Path, name: str, label: str | None) -> Entry:
    if not Path(os.path.realpath(folder / name)).is_relative_to(os.path.realpath(folder)):
        raise DataError(f"{name!r} is a link out of {folder}. Copy the image into the folder.")
    return Entry(key=readable(name), path=folder / name, label=label)


def _with_metadata(folder: Path, path: Path, where: str) -> ImageSet:
    if path.suffix == ".csv":
        return table.open_rows(table.rows(path), path, where)
    return table.open_rows(_json_lines(path), path, where)


def _json_lines(path: Path) -> list[dict[str, str]]:
    lines = []
    for number, line in enumerate(read_text(path, limit=table.TABLE_LIMIT).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number} is not JSON. Write one object per line.") from error
        if not isinstance(value, dict):
            raise DataError(f"{path} line {number} is not an object. Write one object per line.")
        lines.append({name: str(cell) for name, cell in value.items() if isinstance(cell, str | int)})
    return lines
