"""Stored embeddings, read and written again in chunks: .npy files and columns of Parquet files. n rows, d width."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.files import atomic

Rows: TypeAlias = NDArray[np.floating[Any]]
Change: TypeAlias = Callable[[Rows], Rows]
"""What happens to a chunk of rows [n, d]; called in order, with rows in the number format of the file."""

CHUNK: Final = 2**22
"""Numbers in memory at a time, for files that can be read at any place."""


@final
@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many embeddings of which width in which number format a file holds."""

    rows: int
    width: int
    dtype: str


def rewrite(source: Path, out: Path, change: Change, *, width: int, column: str | None = None) -> Shape:
    """Write the embeddings of a file, changed, to `out` and return what they are; the file appears whole or not at all.

    `.npy` is one array [n, d] of float16, float32 or float64, read through a memory map. `.parquet` holds lists of d
    numbers in one column; it is read one row group at a time, and its other columns, row groups, compression and
    metadata stay. The number format stays. Cells of the column that are null stay null.

    Raises:
        DataError: if the file is damaged, holds no such embeddings, or the changed ones do not fit its number format.
        UnsupportedError: if reading it needs a library that is not installed.
        StorageError: if the disk refuses.
    """
    if _is_array(source):
        if column is not None:
            raise DataError(f"{source} is one array and has no column '{column}'. Leave --column out.")
        return _rewrite_array(source, out, change, width)
    return _rewrite_table(source, out, change, width, column)


def count(source: Path) -> int:
    """Return the number of rows of a file, for progress; 0 for an array that has none.

    Raises:
        DataError: if the file is damaged or of another kind.
        UnsupportedError: if reading it needs a library that is not installed.
    """
    if _is_array(source):
        array = _open_array(source)
        return len(array) if array.ndim else 0
    with _opened(source) as file:
        rows: int = file.metadata.num_rows
    return rows


def _is_array(source: Path) -> bool:
    if source.suffix not in (".npy", ".parquet"):
        raise DataError(f"{source} is neither .npy nor .parquet. Give stored embeddings of one of these kinds.")
    return source.suffix == ".npy"


def _rewrite_array(source: Path, out: Path, change: Change, width: int) -> Shape:
    array = _open_array(source)
    if array.ndim != 2 or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(
            f"{source} holds {array.dtype} of shape {array.shape}, not float16, float32 or float64 of shape [n, d]. "
            "Give embeddings as a matrix."
        )
    _check_width(source, array.shape[1], width)
    step = max(1, CHUNK // width)
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
    with atomic.new_file(out, force=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(array), step):
            rows = np.array(array[start : start + step], dtype=array.dtype.newbyteorder("="))
            numbers = np.arange(start, start + len(rows))
            _refuse_infinite(source, rows, numbers, "holds NaN or infinity. Compute it again")
            file.write(_fitted(source, change(rows), array.dtype, numbers).tobytes())
    return Shape(rows=len(array), width=width, dtype=array.dtype.name)


def _open_array(source: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(source, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"{source} is not a sound .npy file of numbers ({reason}). Fetch it again.") from error
    return array


def _rewrite_table(source: Path, out: Path, change: Change, width: int, column: str | None) -> Shape:
    from pyarrow import parquet

    done = 0
    with _opened(source) as file:
        schema = file.schema_arrow
        name = _column(source, schema, column)
        kept = {"compression": _compression(file.metadata), "schema": schema}
        with atomic.new_file(out, force=True) as handle, parquet.ParquetWriter(handle, **kept) as writer:
            for table in _row_groups(source, file):
                place = table.schema.get_field_index(name)
                rows, present = _matrix(source, table.column(name), width, done)
                numbers = done + np.flatnonzero(present)
                _refuse_infinite(source, rows, numbers, "holds NaN or infinity. Compute it again")
                moved = _fitted(source, change(rows), rows.dtype, numbers)
                cells = _cells(moved, present, schema.field(place).type)
                writer.write_table(table.set_column(place, schema.field(place), cells), max(1, len(table)))
                done += len(table)
    dtype = np.dtype(schema.field(name).type.value_type.to_pandas_dtype()).name
    return Shape(rows=done, width=width, dtype=dtype)


def _opened(source: Path) -> Any:  # noqa: ANN401
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UnsupportedError("Parquet files need pyarrow. Install it: pip install 'clip-unlearn[data]'.") from error
    try:
        return parquet.ParquetFile(source)
    except (pyarrow.ArrowInvalid, OSError, ValueError) as error:
        raise _unsound(source, error) from error


def _row_groups(source: Path, file: Any) -> Iterator[Any]:  # noqa: ANN401
    import pyarrow

    for number in range(file.num_row_groups):
        try:
            table = file.read_row_group(number)
        except (pyarrow.ArrowInvalid, OSError, ValueError) as error:
            raise _unsound(source, error) from error
        yield table


def _unsound(source: Path, error: Exception) -> DataError:
    return DataError(f"{source} is not a sound Parquet file ({str(error).splitlines()[0]}). Fetch it again.")


def _column(source: Path, schema: Any, column: str | None) -> str:  # noqa: ANN401
    found = [field.name for field in schema if _holds_vectors(field.type)]
    if column is not None:
        if column not in found:
            known = f"Columns that do: {', '.join(found)}." if found else "No column of the file does."
            raise DataError(f"{source}: column '{column}' holds no lists of numbers. {known}")
        return column
    if len(found) != 1:
        problem = f"has several columns of embeddings ({', '.join(found)})" if found else "has no column of embeddings"
        raise DataError(f"{source} {problem}. Name the right one with --column.")
    return str(found[0])


def _holds_vectors(kind: Any) -> bool:  # noqa: ANN401
    from pyarrow import types

    is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))


def _compression(metadata: Any) -> Any:  # noqa: ANN401
    if not metadata.num_row_groups:
        return "snappy"
    first = metadata.row_group(0)
    columns = [first.column(number) for number in range(first.num_columns)]
    return {each.path_in_schema: each.compression.replace("UNCOMPRESSED", "NONE") for each in columns}


def _matrix(source: Path, column: Any, width: int, start: int) -> tuple[Rows, NDArray[np.bool_]]:  # noqa: ANN401
    """Return the vectors of the cells that are there [n, d], and which cells of the column those are."""
    import pyarrow
    from pyarrow import compute

    array = pyarrow.concat_arrays(column.chunks)
    present: NDArray[np.bool_] = np.asarray(array.is_valid())
    for length in compute.unique(compute.list_value_length(array).drop_null()).to_pylist():
        _check_width(source, length, width)
    values = array.flatten()
    if values.null_count:
        raise DataError(f"{source}: a number is missing in a row from {start}. Compute the embedding again.")
    return values.to_numpy(zero_copy_only=False).reshape(-1, width), present


def _cells(rows: Rows, present: NDArray[np.bool_], kind: Any) -> Any:  # noqa: ANN401
    import pyarrow

    width = rows.shape[1]
    mask = None if bool(present.all()) else pyarrow.array(~present)
    if pyarrow.types.is_fixed_size_list(kind):
        full = np.zeros((len(present), width), dtype=rows.dtype)
        full[present] = rows
        return pyarrow.FixedSizeListArray.from_arrays(_flat(full, kind), type=kind, mask=mask)
    large = pyarrow.types.is_large_list(kind)
    ends = np.concatenate([[0], np.cumsum(present * width)])
    offsets = pyarrow.array(ends, type=pyarrow.int64() if large else pyarrow.int32())
    array = pyarrow.LargeListArray if large else pyarrow.ListArray
    return array.from_arrays(offsets, _flat(rows, kind), type=kind, mask=mask)


def _flat(rows: Rows, kind: Any) -> Any:  # noqa: ANN401
    import pyarrow

    return pyarrow.array(rows.reshape(-1), type=kind.value_type)


def _check_width(source: Path, found: int, width: int) -> None:
    if found != width:
        raise DataError(
            f"{source} holds vectors of {found} numbers, and the model makes {width}. Give embeddings of the model "
            "that the patch was made for."
        )


def _fitted(source: Path, rows: Rows, dtype: np.dtype[Any], numbers: NDArray[np.int_]) -> Rows:
    with np.errstate(over="ignore"):
        fitted = rows.astype(dtype)
    _refuse_infinite(source, fitted, numbers, f"does not fit {dtype.name} after the edit. Store it in a wider format")
    return fitted


def _refuse_infinite(source: Path, rows: Rows, numbers: NDArray[np.int_], problem: str) -> None:
    whole = np.isfinite(rows).all(axis=1)
    if not bool(whole.all()):
        raise DataError(f"{source}: the embedding at row {numbers[np.argmin(whole)]} {problem}.")
