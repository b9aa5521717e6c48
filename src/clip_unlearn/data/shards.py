"""Images in WebDataset shards: ordinary tar files, indexed once and read in place. Nothing is ever extracted."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, final

from clip_unlearn.data.classnames import displayed, from_words
from clip_unlearn.data.entries import ENDINGS, as_text, read_image, read_text, readable
from clip_unlearn.data.images import ImageSet, from_encoded
from clip_unlearn.errors import DataError

TEXT_LIMIT: Final = 1_000_000
"""Most bytes of a label, caption or list of class names."""

_TEXTS: Final = ("cls", "txt", "json")
_IMAGES: Final = tuple(ending.removeprefix(".") for ending in ENDINGS)


@final
@dataclass(kw_only=True)
class _Sample:
    """What a shard holds under one key, filled in while the shard is indexed."""

    shard: Path
    start: int = -1
    size: int = 0
    texts: dict[str, str] = field(default_factory=dict)


def holds_shards(folder: Path) -> bool:
    """Return whether a folder, or `test` in it, holds tar files."""
    return bool(_shards(folder))


def open_shards(path: Path, where: str) -> ImageSet:
    """Return the images of one tar file or of a folder of them, in the order of names and members.

    A sample is every member with one name up to its first dot: an image, and `.cls` (a number or a word), `.txt`
    (captions, one per line) or `.json` (`label`, `caption`). Numbers are indices into `classnames.txt` beside the
    shards or one folder up; the CLIP_benchmark folder with `test/*.tar` works as it is.

    Raises:
        DataError: if a shard is damaged or compressed, a member's name leads out of it, a sample has no image, some
            samples lack a label, or numbers have no names.
    """
    shards = _shards(path) if path.is_dir() else (path,)
    samples: dict[str, _Sample] = {}
    for shard in shards:
        _index(shard, shard.stem if len(shards) > 1 else "", samples)
    if not samples:
        raise DataError(f"{where} holds no images. Give tar files of <key>.jpg with <key>.cls, .txt or .json.")
    bare = next((key for key, sample in samples.items() if sample.start < 0), None)
    if bare is not None:
        raise DataError(f"{where}: sample '{bare}' has no image ({', '.join(_IMAGES)}). Add it or remove the sample.")
    facts = [_facts(key, sample.texts, where) for key, sample in samples.items()]
    classes, labels = _labels([label for label, _ in facts], shards[0].parent, where)
    keys, found = list(samples), list(samples.values())

    def read(index: int) -> bytes:
        sample = found[index]
        return read_image(sample.shard, keys[index], start=sample.start, size=sample.size)

    return from_encoded(
        where=where, keys=keys, read=read, classes=classes, labels=labels, captions=[texts for _, texts in facts]
    )


def _shards(folder: Path) -> tuple[Path, ...]:
    for place in (folder, folder / "test"):
        found = sorted(place.glob("*.tar"), key=lambda path: (len(path.name), path.name))
        if found:
            return tuple(found)
    return ()


def _index(shard: Path, prefix: str, samples: dict[str, _Sample]) -> None:
    try:
        # "r:" refuses compression: a compressed shard cannot be read in place.
        with tarfile.open(shard, "r:") as archive:
            for member in _regular(archive, shard):
                name = PurePosixPath(readable(member.name))
                stem, _, ending = name.name.partition(".")
                key = str(PurePosixPath(prefix) / name.with_name(stem)) if stem else ""
                ending = ending.lower()
                if key and ending in (*_TEXTS, *_IMAGES):
                    _add(samples.setdefault(key, _Sample(shard=shard)), key, ending, member, archive)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        raise DataError(
            f"{shard} is not a sound, uncompressed tar file ({error}). Fetch or unpack it again."
        ) from error


def _regular(archive: tarfile.TarFile, shard: Path) -> Iterator[tarfile.TarInfo]:
    end = -1
    for member in archive:
        if member.offset <= end or member.size < 0:
            raise tarfile.ReadError(f"member '{readable(member.name)}' starts before the one before it ends")
        end = member.offset
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise DataError(f"{shard}: member '{readable(member.name)}' leads out of the file. Do not use this file.")
        if member.isreg() and not member.issparse():
            yield member


def _add(sample: _Sample, key: str, ending: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    place = f"{sample.shard}: '{readable(member.name)}'"
    if ending in sample.texts or (ending in _IMAGES and sample.start >= 0) or sample.shard != Path(str(archive.name)):
        raise DataError(f"{place} is a second '{ending}' of sample '{key}'. Remove one.")
    if ending in _IMAGES:
        sample.start, sample.size = member.offset_data, member.size
        return
    if member.size > TEXT_LIMIT:
        raise DataError(f"{place} is larger than {TEXT_LIMIT // 1_000_000} MB. Store less text.")
    file = archive.extractfile(member)
    sample.texts[ending] = as_text(file.read() if file else b"", place).strip()


def _facts(key: str, texts: dict[str, str], where: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the label, as it is written, and the captions of a sample."""
    label: str | None = texts.get("cls")
    captions = tuple(line.strip() for line in texts.get("txt", "").splitlines() if line.strip())
    if "json" not in texts:
        return label, captions
    try:
        value = json.loads(texts["json"])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: the .json of sample '{key}' is not JSON. Correct it.") from error
    value = value if isinstance(value, dict) else {}
    if label is None and isinstance(value.get("label"), str | int):
        label = str(value["label"])
    if not captions and isinstance(value.get("caption"), str) and value["caption"].strip():
        captions = (value["caption"].strip(),)
    return label, captions


def _labels(words: Sequence[str | None], folder: Path, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    given = [word for word in words if word is not None]
    if not given:
        return (), ()
    if len(given) != len(words):
        raise DataError(f"{where}: {len(words) - len(given)} of {len(words)} samples have no label. Label all or none.")
    if not all(word.isdecimal() for word in given):
        return from_words(given, where)
    names = _class_names(folder)
    if names is None:
        raise DataError(f"{where} has label numbers without names. Put classnames.txt, one name per line, beside it.")
    numbers = tuple(int(word) for word in given)
    if max(numbers) >= len(names):
        raise DataError(
            f"{where}: label {max(numbers)} is beyond the {len(names)} names in classnames.txt. Correct one."
        )
    return names, numbers


def _class_names(folder: Path) -> tuple[str, ...] | None:
    for path in (folder / "classnames.txt", folder.parent / "classnames.txt"):
        if path.is_file():
            lines = read_text(path, limit=TEXT_LIMIT).splitlines()
            return displayed([line for line in lines if line.strip()], str(path))
    return None
