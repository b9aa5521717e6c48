"""Apply a patch to stored embeddings, without the pictures or texts they were made from. n rows, d width."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from torch import Tensor

from clip_unlearn.core.config import Config
from clip_unlearn.core.embedding_map import TOWERS, embedding_map
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.data import stored
from clip_unlearn.data.stored import Rows
from clip_unlearn.errors import DataError, OutputError, SettingError, UnsupportedError
from clip_unlearn.files import atomic
from clip_unlearn.files.paths import existing
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.vectors import NULL, unit

FOLDERS: Final[Mapping[TowerName, str]] = {"image": "img_emb", "text": "text_emb"}
"""Where clip-retrieval keeps the embeddings of each side."""

UNIT_TOLERANCE: Final = 2e-3
"""How far from 1 a norm may be for a row to count as normalised; float16 rounds to 5e-4."""


@final
class Part(Config):
    """One file of embeddings that was mapped."""

    name: str
    side: TowerName
    rows: int
    width: int
    dtype: str
    normalised: bool
    """True when the rows had length 1; then the mapped ones have it too."""

    null: int
    """Rows of which the edit left nothing; they are exactly null."""


@final
class Reembedded(Config):
    """What was written."""

    where: str
    parts: tuple[Part, ...]


def reembed(
    model: Model,
    patch: Patch,
    embeddings: Path,
    out: Path,
    *,
    column: str | None = None,
    side: str = "image",
    force: bool = False,
) -> Reembedded:
    """Write stored embeddings to `out` as the edited model would make them, and return what was written.

    `embeddings` is a .npy or .parquet file of one side, or a folder as clip-retrieval writes it: `img_emb/*.npy`,
    `text_emb/*.npy`, and whatever else, which is copied. Rows that have length 1 keep it; a row of which the edit
    leaves nothing becomes null. The number format stays. Output appears whole or not at all.

    Raises:
        SettingError: if `side` is neither "image" nor "text".
        UnsupportedError: if the patch is no map of these embeddings, or leaves them alone, or adds an offset to
            normalised ones.
        DataError: if the embeddings are missing, damaged, or of another width than the model's.
        OutputError: if `out` is the input, lies in it, or has content and `force` is not set.
        StorageError: if the disk refuses.
    """
    if side not in TOWERS:
        raise SettingError(f"--side '{side}' is not usable: a file holds image or text embeddings. Write one of them.")
    source = existing(embeddings, what="Embeddings")
    _check_apart(source, out)
    patch.apply(model)  # says so if the patch is for another model
    if source.is_dir():
        return _folder(model, patch, source, out, force=force)
    atomic.check_free_file(out, force=force)
    tower: TowerName = "image" if side == "image" else "text"
    mapping = embedding_map(patch, model, tower)
    if mapping is None:
        raise UnsupportedError(f"The patch leaves {tower} embeddings as they are, so there is nothing to map.")
    part = _file(source, out, mapping, tower, column=column)
    return Reembedded(where=str(out), parts=(part,))


def _folder(model: Model, patch: Patch, source: Path, out: Path, *, force: bool) -> Reembedded:
    atomic.check_free(out, force=force)
    files = {tower: sorted((source / name).glob("*.npy")) for tower, name in FOLDERS.items()}
    held = [tower for tower in TOWERS if files[tower]]
    if not held:
        raise DataError(f"{source} has no img_emb/*.npy and no text_emb/*.npy. Give a clip-retrieval folder or a file.")
    maps = {tower: found for tower in held if (found := embedding_map(patch, model, tower)) is not None}
    if not maps:
        raise UnsupportedError(f"The patch leaves {' and '.join(held)} embeddings as they are: nothing to map.")
    mapped = {file: tower for tower in maps for file in files[tower]}
    parts = []
    with atomic.new_folder(out, force=force) as folder:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in mapped:
                parts.append(_file(file, target, maps[mapped[file]], mapped[file], name=str(file.relative_to(source))))
            else:
                shutil.copyfile(file, target)
    return Reembedded(where=str(out), parts=tuple(parts))


def _file(
    source: Path, out: Path, mapping: AffineMap, tower: TowerName, *, column: str | None = None, name: str = ""
) -> Part:
    stage = partial(report, name or source.name, total=stored.count(source))
    mapper = _Mapper(mapping, source, lambda done: stage(done=done))
    shape = stored.rewrite(source, out, mapper, width=mapping.down.shape[0], column=column)
    return Part(
        name=name or source.name,
        side=tower,
        rows=shape.rows,
        width=shape.width,
        dtype=shape.dtype,
        normalised=bool(mapper.normalised),
        null=mapper.null,
    )


def _check_apart(source: Path, out: Path) -> None:
    inside, outside = source.resolve(), out.expanduser().resolve()
    if inside == outside:
        raise OutputError(f"Output {out} is the input. Choose another with --out.")
    if (inside.is_dir() and outside.is_relative_to(inside)) or inside.is_relative_to(outside):
        raise OutputError(f"Output {out} and input {source} lie in one another. Choose another with --out.")


class _Mapper:
    """Maps chunks of rows in order, and remembers what it saw of them."""

    def __init__(self, mapping: AffineMap, source: Path, told: Callable[[int], None]) -> None:
        self.normalised: bool | None = None
        """Whether rows have length 1; None until there is a row that is not null."""
        self.null = 0
        self._seen = 0
        self._mapping, self._source, self._told = mapping, source, told

    def __call__(self, rows: Rows) -> Rows:
        """Return the mapped rows [n, d], in float64 for float64 and in float32 otherwise."""
        exact = torch.from_numpy(rows if rows.dtype == np.float64 else rows.astype(np.float32))
        lengths = exact.norm(dim=-1)
        self._judge(lengths)
        moved = self._mapping(exact)
        if self._mapping.offset is None:
            # What is left of a row that was stored in few bits can be the rounding of the storage alone.
            noise = float(np.finfo(rows.dtype).eps) * lengths
            moved = moved.masked_fill((moved.norm(dim=-1) <= noise).unsqueeze(-1), 0.0)
        if self.normalised:
            moved = unit(moved)
        self.null += int(((moved.norm(dim=-1) <= NULL) & (lengths > NULL)).sum())
        self._seen += len(rows)
        self._told(self._seen)
        mapped: Rows = moved.numpy()
        return mapped

    def _judge(self, lengths: Tensor) -> None:
        """Decide by the first rows that are not null whether all are normalised, and hold later ones to it."""
        live = lengths > NULL
        off = live & ((lengths - 1.0).abs() > UNIT_TOLERANCE)
        if self.normalised is None and bool(live.any()):
            self.normalised = not bool(off.any())
        if self.normalised and bool(off.any()):
            place = int(off.int().argmax())
            raise DataError(
                f"{self._source}: embedding {self._seen + place} has length {float(lengths[place]):.3g} and those "
                "before it have length 1. Normalise all or none."
            )
        if self.normalised and self._mapping.offset is not None:
            raise UnsupportedError(
                "The edit adds an offset, and these embeddings were normalised, so how long they were is lost. Embed "
                "the pictures again with the edited model, or give embeddings as the model made them."
            )
