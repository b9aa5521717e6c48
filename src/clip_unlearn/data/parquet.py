"""Images in a Parquet file as the Hugging Face hub stores them, read one row group at a time."""

import bisect
import functools
import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clip_unlearn.data.classnames import displayed, from_words
from clip_unlearn.data.images import ImageSet, from_encoded
from clip_unlearn.errors import DataError, UnsupportedError

CACHED_GROUPS: Final = 2
"""Row groups of encoded images kept in memory."""


def open_parquet(path: Path, where: str) -> ImageSet:
    """Return the images of a Parquet file.

    Columns: `image` (or `img`), a struct {bytes, path} or plain bytes; and where present `label` (a number with names
    in the schema's `huggingface` key, or a word), `domain`, `captions` or `caption`, `filename` for the keys.

    Raises:
        UnsupportedError: if pyarrow is not installed.
        DataError: if the file is damaged, has no image column, or its labels have no names.
    """
    parquet, failures = _library()
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            column = _image_column(schema, path)
            wanted = [name for name in ("label", "domain", "captions", "caption", "filename") if name in schema.names]
            cells: dict[str, list[Any]] = file.read(columns=wanted).to_pydict() if wanted else {}
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    except failures as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{where} is not a sound Parquet file ({reason}). Fetch it again.") from error
    count = sum(sizes)
    if not count:
        raise DataError(f"{where} has no rows. Give a file with images.")
    keys = _keys(cells.get("filename"), count)
    classes, labels = _labels(cells.get("label"), _names(schema.metadata), where)
    return from_encoded(
        where=where,
        keys=keys,
        read=_reader(path, column, sizes, keys),
        classes=classes,
        labels=labels,
        captions=_captions(cells),
        domains=_domains(cells.get("domain"), where),
    )


def _library() -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UnsupportedError("Parquet files need pyarrow. Install it: pip install 'clip-unlearn[data]'.") from error
    # Not ArrowException: that includes running out of memory, which is no fault of the file.
    return parquet, (
        pyarrow.ArrowInvalid,
        pyarrow.ArrowNotImplementedError,
        OSError,
        ValueError,
        LookupError,
        TypeError,
    )


def _image_column(schema: Any, path: Path) -> str:  # noqa: ANN401
    from pyarrow import types

    for name in ("image", "img"):
        if name in schema.names:
            kind = schema.field(name).type
            if types.is_binary(kind) or types.is_large_binary(kind):
                return name
            if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return f"{name}.bytes"
    columns = ", ".join(schema.names[:8])
    raise DataError(
        f"{path} has no column 'image' that holds image bytes (columns: {columns}). Embed the images in it."
    )


def _keys(names: Sequence[object] | None, count: int) -> list[str]:
    if names is not None and all(isinstance(name, str) for name in names) and len(set(names)) == count:
        return [str(name) for name in names]
    return [f"row {number:06d}" for number in range(count)]


def _names(metadata: Mapping[bytes, bytes] | None) -> list[str] | None:
    try:
        names = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _labels(
    cells: Sequence[object] | None, names: list[str] | None, where: str
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if cells is None:
        return (), ()
    if names is None:
        if all(isinstance(cell, str) for cell in cells):
            return from_words([str(cell) for cell in cells], where)
        raise DataError(f"{where} has label numbers without names. Store a ClassLabel feature, or labels as words.")
    labels = [cell if isinstance(cell, int) and 0 <= cell < len(names) else -1 for cell in cells]
    if -1 in labels:
        row = labels.index(-1)
        raise DataError(f"{where}: label {cells[row]} of row {row} is none of the {len(names)} classes. Correct it.")
    return displayed(names, where), tuple(labels)


def _captions(cells: Mapping[str, list[Any]]) -> list[tuple[str, ...]]:
    if "captions" in cells:
        return [tuple(str(each) for each in row or ()) for row in cells["captions"]]
    return [(str(cell),) if cell else () for cell in cells.get("caption", [])]


def _domains(cells: Sequence[object] | None, where: str) -> tuple[str, ...]:
    if cells is not None and any(not isinstance(cell, str) for cell in cells):
        raise DataError(f"{where}: a 'domain' is not a word. Fill in the column or remove it.")
    return tuple(str(cell) for cell in cells or ())


def _reader(path: Path, column: str, sizes: Sequence[int], keys: Sequence[str]) -> Callable[[int], bytes]:
    starts = [0, *itertools.accumulate(sizes)][:-1]
    parquet, failures = _library()
    turn = threading.Lock()

    @functools.lru_cache(maxsize=CACHED_GROUPS)
    def group(number: int) -> Any:  # noqa: ANN401
        with parquet.ParquetFile(path) as file:
            return file.read_row_group(number, columns=[column]).column(0)

    def read(row: int) -> bytes:
        number = bisect.bisect_right(starts, row) - 1
        try:
            with turn:
                cell = group(number)[row - starts[number]].as_py()
        except failures as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{keys[row]}: its row group cannot be read ({reason}). Fetch {path} again.") from error
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(content, bytes):
            raise DataError(f"{keys[row]}: the row holds no image bytes. Embed the image in the file.")
        return content

    return read
