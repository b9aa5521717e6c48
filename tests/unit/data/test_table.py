import pytest

from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError


@pytest.fixture
def table(class_folder):
    def write(text, name="list.csv"):
        path = class_folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def test_labels(table):
    images = open_data(table("filepath,label\nmug/0.png,coffee_mug\nfire_truck/0.png,truck\nmug/1.png,Coffee mug\n"))
    assert images.classes == ("Coffee mug", "truck")
    assert images.labels == (0, 1, 0)
    assert images.picture(1).size == (8, 6)


@pytest.mark.parametrize(("name", "mark"), [("a.csv", ","), ("a.csv", "\t"), ("a.tsv", "\t"), ("a.CSV", ",")])
@pytest.mark.parametrize("column", ["caption", "title"])
def test_captions_and_separators(table, name, mark, column):
    rows = [("filepath", column), ("mug/0.png", "a mug"), ("mug/1.png", "another"), ("mug/0.png", "the same mug")]
    images = open_data(table("\ufeff" + "\r\n".join(mark.join(row) for row in rows), name))
    assert images.keys == ("mug/0.png", "mug/1.png")
    assert images.captions == (("a mug", "the same mug"), ("another",))


def test_commas_inside_a_tsv(table):
    assert open_data(table("filepath\tcaption\nmug/0.png\ta mug, red\n", "a.tsv")).captions == (("a mug, red",),)


def test_absolute_paths_below_the_table(table, class_folder):
    images = open_data(table(f"filepath,label\n{class_folder}/mug/0.png,mug\n"))
    assert images.keys == ("mug/0.png",)


@pytest.mark.parametrize(
    "name", ["../outside.png", "mug/../../outside.png", "/etc/passwd", "link.png", "{folder}/../outside.png"]
)
def test_no_way_out_of_the_folder(table, class_folder, encode, name):
    (class_folder.parent / "outside.png").write_bytes(encode(1))
    (class_folder / "link.png").symlink_to(class_folder.parent / "outside.png")
    with pytest.raises(DataError, match="leads out of"):
        open_data(table(f"filepath,label\n{name.format(folder=class_folder)},mug\n"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("file,label\nmug/0.png,mug\n", "has no column 'filepath' .*file, label"),
        ("filepth,label\nmug/0.png,mug\n", "Did you mean 'filepath'?"),
        ("filepath,other\nmug/0.png,mug\n", "neither a column 'label' nor"),
        ("filepath,label\n,mug\nmug/0.png,mug\n", "row 2 has no file"),
        ("filepath,label\nmug/0.png,mug\nmug/0.png,cup\n", "row 3: 'mug/0.png' has label 'cup' here and 'mug' before"),
        ("filepath,label\nmug/0.png,mug\nmug/1.png,\n", "'mug/1.png' has no label and others have one"),
        ("filepath,label\nno/0.png,mug\n", "none of the 1 listed files exists, not even 'no/0.png'"),
        ("filepath,label\nmug/0.png,m\x07g\n", "class name .* cannot be used"),
        ("filepath,label\n", "no column 'filepath'"),
        ("", "no column 'filepath'"),
        (b"filepath,label\nmug/0.png,caf\xe9\n", "is not UTF-8 text"),
        (b"filepath,label\nmug/0.png,\0\n", "holds NUL"),
        ("filepath,label\n" + "x" * 200_000 + ",mug\n", "is not a table"),
    ],
)
def test_malformed_tables(table, text, match):
    with pytest.raises(DataError, match=match):
        open_data(table(text))


def test_extra_cells_are_left_out(table):
    assert open_data(table("filepath,label\nmug/0.png,mug,x,y\n")).classes == ("mug",)
