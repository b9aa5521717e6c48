import json
import sys

import pytest

from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UnsupportedError

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture
def write(tmp_path):
    def save(columns, names=None, group=4, kinds=None):
        arrays = {
            name: pyarrow.array(cells, type=(kinds or {"image": STRUCT}).get(name)) for name, cells in columns.items()
        }
        table = pyarrow.table(arrays)
        if names is not None:
            features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        path = tmp_path / "data.parquet"
        pq.write_table(table, path, row_group_size=group)
        return str(path)

    return save


@pytest.fixture
def cells(encode):
    return [{"bytes": encode(seed, size=(4 + seed, 4)), "path": f"{seed}.png"} for seed in range(10)]


def test_labelled_images(write, cells):
    where = write(
        {"image": cells, "label": [0, 1] * 5, "domain": ["photo"] * 10, "filename": [f"f{i}.png" for i in range(10)]},
        names=["tench", "fire_truck"],
    )
    images = open_data(where)
    assert images.classes == ("tench", "fire truck")
    assert images.labels == (0, 1) * 5
    assert (images.keys[3], images.domains[0], images.captions) == ("f3.png", "photo", ())
    assert [images.picture(index).width for index in (9, 0, 5, 4)] == [13, 4, 9, 8]
    assert len(set(images.contents)) == 10


def test_row_groups_are_read_once_in_order(write, cells, monkeypatch):
    reads = []
    real = pq.ParquetFile.read_row_group
    where = write({"image": cells})
    images = open_data(where)

    def counting(self, number, **more):
        reads.append(number)
        return real(self, number, **more)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    _ = images.contents
    assert reads == [0, 1, 2]


@pytest.mark.parametrize("several", [True, False])
def test_captions(write, cells, several):
    texts = [[f"one {i}", f"two {i}"] for i in range(10)]
    columns = {"image": cells, "caption": [text[0] for text in texts]}
    images = open_data(write({**columns, "captions": texts} if several else columns))
    assert images.captions[4] == (("one 4", "two 4") if several else ("one 4",))
    assert (images.classes, images.labels) == ((), ())
    assert images.keys[4] == "row 000004"


def test_plain_bytes_and_word_labels(write, cells):
    where = write(
        {"img": [cell["bytes"] for cell in cells], "label": ["mug", "cat"] * 5}, kinds={"img": pyarrow.binary()}
    )
    images = open_data(where)
    assert (images.classes, images.labels[:2]) == (("cat", "mug"), (1, 0))
    assert images.picture(9).width == 13


def test_no_image_column(write):
    with pytest.raises(DataError, match=r"no column 'image' that holds image bytes \(columns: label, image\)"):
        open_data(write({"label": [1], "image": ["a.png"]}, kinds={"label": None}))


@pytest.mark.parametrize(
    ("columns", "names", "match"),
    [
        ({"label": [0] * 10}, None, "label numbers without names"),
        ({"label": [0] * 9 + [7]}, ["a", "b"], "label 7 of row 9 is none of the 2 classes"),
        ({"label": [0] * 9 + [-1]}, ["a", "b"], "label -1 of row 9"),
        ({"label": [0] * 9 + [None]}, ["a", "b"], "label None of row 9"),
        ({"label": [0] * 10}, ["a b", "A_b"], "classes 'a b' and 'A b' are the same name"),
        ({"label": [0] * 10}, ["a", "b\nc"], "class name .* cannot be used"),
        ({"domain": ["x"] * 9 + [None]}, None, "a 'domain' is not a word"),
    ],
)
def test_malformed_columns(write, cells, columns, names, match):
    with pytest.raises(DataError, match=match):
        open_data(write({"image": cells, **columns}, names=names))


def test_damaged_names_are_no_names(tmp_path, cells):
    for text in ("{", "[]", '{"info": {"features": {"label": {"names": [1]}}}}'):
        table = pyarrow.table({"image": pyarrow.array(cells, type=STRUCT), "label": list(range(10))})
        pq.write_table(table.replace_schema_metadata({"huggingface": text}), tmp_path / "x.parquet")
        with pytest.raises(DataError, match="without names"):
            open_data(str(tmp_path / "x.parquet"))


def test_missing_bytes_are_one_bad_image(write, cells):
    images = open_data(write({"image": [*cells[:5], {"bytes": None, "path": "5.png"}, None, *cells[7:]]}))
    for index in (5, 6):
        with pytest.raises(DataError, match=rf"row 00000{index}: the row holds no image bytes"):
            images.picture(index)
    assert images.picture(7).width == 11
    assert len(images.contents) == 10


def test_damaged_files(write, cells, tmp_path):
    where = write({"image": cells})
    content = (tmp_path / "data.parquet").read_bytes()
    for wrong in (b"", b"PAR1", content[:-20], b"x" * 100):
        (tmp_path / "data.parquet").write_bytes(wrong)
        with pytest.raises(DataError, match="is not a sound Parquet file"):
            open_data(where)
    (tmp_path / "data.parquet").write_bytes(content)
    images = open_data(where)
    (tmp_path / "data.parquet").write_bytes(content[:40])
    with pytest.raises(DataError, match="row 000000: its row group cannot be read"):
        images.picture(0)


def test_no_rows(write):
    with pytest.raises(DataError, match="has no rows"):
        open_data(write({"image": []}))


def test_pyarrow_is_optional(write, cells, monkeypatch):
    where = write({"image": cells})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'clip-unlearn\[data\]'"):
        open_data(where)


@pytest.mark.yardstick
@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("caltech101-test", 1500, 100),
        ("cifar100-test", 2500, 100),
        ("tiny-imagenet-test", 3000, 200),
        ("pacs-dev", 420, 7),
    ],
)
def test_real_images(yardsticks, name, count, classes):
    images = open_data(str(yardsticks / "data" / f"{name}.parquet"))
    assert (len(images), len(images.classes), len(set(images.contents))) == (count, classes, count)
    assert all(images.picture(index).mode == "RGB" for index in range(0, count, 101))
    assert bool(images.domains) == (name == "pacs-dev")


@pytest.mark.yardstick
def test_real_captions(yardsticks):
    images = open_data(str(yardsticks / "data" / "flickr8k-test.parquet"), split="audit")
    assert len(images) == 300
    assert all(len(each) == 5 for each in images.captions)
