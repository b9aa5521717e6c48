"""Stored embeddings: read and written in pieces, with everything else left as it was."""

from typing import Any

import numpy as np
import pytest

from clip_unlearn.data import stored
from clip_unlearn.errors import DataError

WIDTH = 4


def rows(count: int = 10, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, WIDTH)).astype(dtype)


def double(chunk: np.ndarray) -> np.ndarray:
    return chunk.astype(np.float64) * 2


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_changed_and_keeps_its_format(dtype, order, tmp_path):
    before = np.array(rows(), dtype=dtype, order=order)
    np.save(tmp_path / "in.npy", before)
    shape = stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH)
    after = np.load(tmp_path / "out.npy", allow_pickle=False)
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after, before * 2)
    assert (shape.rows, shape.width, shape.dtype) == (10, WIDTH, np.dtype(dtype).name)


def test_it_comes_in_chunks_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 3 * WIDTH)
    np.save(tmp_path / "in.npy", rows())
    seen: list[np.ndarray] = []
    stored.rewrite(
        tmp_path / "in.npy", tmp_path / "out.npy", lambda one: (seen.append(one.copy()), one)[1], width=WIDTH
    )
    assert [len(one) for one in seen] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(seen), rows())
    assert (tmp_path / "in.npy").read_bytes() == (tmp_path / "out.npy").read_bytes()


def test_the_input_is_not_written_to(tmp_path):
    np.save(tmp_path / "in.npy", rows())

    def spoil(chunk: np.ndarray) -> np.ndarray:
        chunk[:] = 7
        return chunk

    stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", spoil, width=WIDTH)
    np.testing.assert_array_equal(np.load(tmp_path / "in.npy"), rows())


def test_no_rows_are_no_rows(tmp_path):
    np.save(tmp_path / "in.npy", rows(0))
    assert stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH).rows == 0
    assert np.load(tmp_path / "out.npy").shape == (0, WIDTH)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones(4, np.float32), r"of shape \(4,\)"),
        (np.float32(1), r"of shape \(\)"),
        (np.ones((2, WIDTH), np.int8), "holds int8"),
        (np.ones((2, WIDTH), np.longdouble), "holds float128|holds longdouble"),
        (np.ones((2, 5), np.float32), "vectors of 5 numbers, and the model makes 4"),
        (np.array([[1, 2, 3, np.nan]], np.float32), "row 0 holds NaN"),
        (np.array([[1, 2, 3, 4], [1, 2, 3, np.inf]], np.float32), "row 1 holds NaN or infinity"),
        (np.array([[1, 2, 3, 60000]], np.float16), "row 0 does not fit float16"),
    ],
)
def test_arrays_that_are_no_embeddings(array, said, tmp_path):
    np.save(tmp_path / "in.npy", array)
    with pytest.raises(DataError, match=said):
        stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x93NUMPY\x01\x00"])
def test_files_that_are_no_arrays(content, tmp_path):
    (tmp_path / "in.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"in\.npy is not a sound \.npy file"):
        stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH)


def test_a_cut_array_and_a_pickled_one(tmp_path):
    np.save(tmp_path / "in.npy", rows())
    whole = (tmp_path / "in.npy").read_bytes()
    (tmp_path / "in.npy").write_bytes(whole[:-8])
    with pytest.raises(DataError, match="not a sound"):
        stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH)
    np.save(tmp_path / "in.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="not a sound"):
        stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH)


def test_kinds_and_columns_that_make_no_sense(tmp_path):
    np.save(tmp_path / "in.npy", rows())
    with pytest.raises(DataError, match="has no column 'x'. Leave --column out"):
        stored.rewrite(tmp_path / "in.npy", tmp_path / "out.npy", double, width=WIDTH, column="x")
    with pytest.raises(DataError, match=r"neither \.npy nor \.parquet"):
        stored.rewrite(tmp_path / "in.csv", tmp_path / "out.csv", double, width=WIDTH)


pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

KINDS = {
    "fixed float16": pa.list_(pa.float16(), WIDTH),
    "fixed float32": pa.list_(pa.float32(), WIDTH),
    "fixed float64": pa.list_(pa.float64(), WIDTH),
    "list float16": pa.list_(pa.float16()),
    "list float32": pa.list_(pa.float32()),
    "large list float64": pa.large_list(pa.float64()),
}
DTYPES = {"float16": np.float16, "float32": np.float32, "float64": np.float64}


def table(kind: Any, cells: list[Any]) -> Any:
    return pa.table(
        {
            "url": [f"a{index}" for index in range(len(cells))],
            "embedding": pa.array(cells, type=kind),
            "width": pa.array(range(len(cells)), type=pa.int16()),
        }
    ).replace_schema_metadata({"note": "mine"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_column_is_changed_and_all_else_stays(kind, gaps, tmp_path):
    values = rows(10, DTYPES[kind.split()[-1]])
    cells: list[Any] = list(values)
    if gaps:
        cells[0] = cells[4] = cells[9] = None
    codecs = {"url": "gzip", "width": "none"}
    pq.write_table(table(KINDS[kind], cells), tmp_path / "in.parquet", row_group_size=4, compression=codecs)
    before = pq.read_table(tmp_path / "in.parquet")
    shape = stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH)
    after = pq.read_table(tmp_path / "out.parquet")
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop_columns("embedding").equals(before.drop_columns("embedding"))
    for old, new in zip(cells, after["embedding"].to_pylist(), strict=True):
        assert new == (None if old is None else [float(number) for number in old * 2])
    assert (shape.rows, shape.width, shape.dtype) == (10, WIDTH, kind.split()[-1])
    files = [pq.ParquetFile(tmp_path / name).metadata for name in ("in.parquet", "out.parquet")]
    assert [files[1].row_group(number).num_rows for number in range(3)] == [4, 4, 2]
    used = [[file.row_group(0).column(number).compression for number in range(3)] for file in files]
    assert used[0] == used[1]


def test_a_null_cell_is_not_among_the_rows(tmp_path):
    pq.write_table(table(KINDS["fixed float32"], [None, *rows(2)]), tmp_path / "in.parquet")
    seen: list[np.ndarray] = []
    stored.rewrite(
        tmp_path / "in.parquet", tmp_path / "out.parquet", lambda one: (seen.append(one.copy()), one)[1], width=WIDTH
    )
    np.testing.assert_array_equal(np.concatenate(seen), rows(2))


def test_an_empty_table(tmp_path):
    pq.write_table(table(KINDS["list float32"], []), tmp_path / "in.parquet")
    assert stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH).rows == 0
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_the_right_column_is_named_where_there_are_several(tmp_path):
    two = table(KINDS["list float32"], list(rows())).append_column(
        "other", pa.array(list(rows()), type=pa.list_(pa.float32()))
    )
    pq.write_table(two, tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"several columns of embeddings \(embedding, other\)\. Name the right one"):
        stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH)
    stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH, column="other")
    after = pq.read_table(tmp_path / "out.parquet")
    assert after["embedding"].equals(two["embedding"])
    assert not after["other"].equals(two["other"])


@pytest.mark.parametrize(
    ("cells", "column", "said"),
    [
        ([[1.0, 2.0]], None, "vectors of 2 numbers, and the model makes 4"),
        ([[1.0, 2.0, 3.0, 4.0], [1.0]], None, "vectors of 1 numbers"),
        ([[1.0, 2.0, None, 4.0]], None, "a number is missing"),
        ([[1.0, 2.0, 3.0, float("nan")]], None, "row 0 holds NaN"),
        ([None, [1.0, 2.0, 3.0, 4.0], None, [1.0, 2.0, 3.0, float("inf")]], None, "row 3 holds NaN or infinity"),
        ([[1.0, 2.0, 3.0, 4.0]], "width", r"column 'width' holds no lists of numbers\. Columns that do: embedding"),
        ([[1.0, 2.0, 3.0, 4.0]], "nowhere", "column 'nowhere' holds no lists"),
    ],
)
def test_columns_that_are_no_embeddings(cells, column, said, tmp_path):
    pq.write_table(table(pa.list_(pa.float32()), cells), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=said):
        stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH, column=column)
    assert [path.name for path in tmp_path.iterdir()] == ["in.parquet"]


def test_a_table_without_embeddings_and_a_damaged_one(tmp_path):
    pq.write_table(pa.table({"url": ["a"]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"has no column of embeddings\. Name"):
        stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH)
    (tmp_path / "in.parquet").write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(DataError, match="not a sound Parquet file"):
        stored.rewrite(tmp_path / "in.parquet", tmp_path / "out.parquet", double, width=WIDTH)
    with pytest.raises(DataError, match="not a sound Parquet file"):
        stored.count(tmp_path / "in.parquet")


def test_rows_are_counted_without_reading_them(tmp_path):
    np.save(tmp_path / "in.npy", rows())
    pq.write_table(table(KINDS["list float32"], list(rows(7))), tmp_path / "in.parquet")
    np.save(tmp_path / "one.npy", np.float32(1))
    assert stored.count(tmp_path / "one.npy") == 0
    assert (stored.count(tmp_path / "in.npy"), stored.count(tmp_path / "in.parquet")) == (10, 7)
