"""What `find` wrote, opened as labelled data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.data.selection import FILE, is_selection, names_selection, read_selection
from clip_unlearn.errors import DataError

LABELS = ("mug", "cup", None, "mug", "bowl", "mug", "cup", "bowl")
"""What the images of `mug` count as, in their order; those of `fire truck` are a truck."""

Write = Callable[..., Path]


@pytest.fixture
def found(class_folder: Path, tmp_path: Path) -> Write:
    """Return a writer of a folder as `find` writes it, about the class folder; keywords replace parts of it."""

    def write(**changes: Any) -> Path:
        images = open_data(str(class_folder))
        content = {
            "kind": "clip-unlearn find",
            "schema_version": 1,
            "concept": {"name": "mug", "synonyms": [], "found": []},
            "data": {"where": images.where, "revision": "", "digest": images.digest, "count": len(images)},
            "images": [image(key, label_of(images, row)) for row, key in enumerate(images.keys)],
            "threshold": 0.9,
            **changes,
        }
        folder = tmp_path / "found"
        folder.mkdir(exist_ok=True)
        (folder / FILE).write_text(json.dumps(content))
        return folder

    return write


def label_of(images: ImageSet, row: int) -> str | None:
    """Return what an image counts as."""
    if images.classes[images.labels[row]] != "mug":
        return "truck"
    return LABELS[int(Path(images.keys[row]).stem)]


def image(key: str, label: str | None) -> dict[str, Any]:
    """Return the entry of an image."""
    return {"key": key, "probability": 0.5, "chosen": label == "mug", "other": "cup", "label": label}


def test_the_images_with_a_label_are_there_in_their_order(found: Write, class_folder: Path) -> None:
    source, folder = open_data(str(class_folder)), found()
    for where in (str(folder), str(folder / FILE)):
        images = open_data(where)
        assert images.where == where
        assert images.classes == ("mug", "bowl", "cup", "truck")
        expected = [(key, label_of(source, row)) for row, key in enumerate(source.keys)]
        assert [(key, images.classes[label]) for key, label in zip(images.keys, images.labels, strict=True)] == [
            (key, label) for key, label in expected if label is not None
        ]
        assert len(images) == 15
        for row, key in enumerate(images.keys):
            first = source.keys.index(key)
            assert images.contents[row] == source.contents[first]
            assert images.picture(row).tobytes() == source.picture(first).tobytes()


def test_captions_are_dropped(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encode(index))
    table = tmp_path / "list.csv"
    table.write_text("filepath,caption\n" + "".join(f"{index}.png,a mug\n" for index in range(3)))
    source = open_data(str(table))
    assert len(source.captions) == 3
    entries = [image(key, "mug" if row else "cup") for row, key in enumerate(source.keys)]
    content = {
        "kind": "clip-unlearn find",
        "schema_version": 1,
        "concept": {"name": "mug"},
        "data": {"where": source.where, "digest": source.digest},
        "images": entries,
    }
    (tmp_path / "out.json").write_text(json.dumps(content))
    images = open_data(str(tmp_path / "out.json"))
    assert images.captions == ()
    assert images.labels == (1, 0, 0)


def test_domains_stay(found: Write) -> None:
    source = open_data("sandbox@select")
    rows = {0: "photo", 500: "photo", 1000: "painting", 2000: "sketch"}
    images = open_data(
        str(
            found(
                data={"where": source.where, "digest": source.digest},
                images=[image(source.keys[row], "mug") for row in rows],
            )
        )
    )
    assert images.domains == tuple(rows.values())


def test_it_is_split_like_other_data(found: Write) -> None:
    folder = found()
    parts = {part: open_data(f"{folder}@{part}") for part in ("stop", "select", "audit")}
    keys = [key for images in parts.values() for key in images.keys]
    assert sorted(keys) == sorted(open_data(str(folder)).keys)
    assert len(set(keys)) == len(keys)
    assert parts["stop"].where == f"{folder}@stop"
    assert {images.classes for images in parts.values()} == {("mug", "bowl", "cup", "truck")}
    assert open_data(f"{folder}@stop").digest == parts["stop"].digest == open_data(str(folder), split="stop").digest


def test_class_names_are_shown_as_elsewhere(found: Write, class_folder: Path) -> None:
    source = open_data(str(class_folder))
    entries = [image(key, "red_mug" if row else "tea_cup") for row, key in enumerate(source.keys)]
    assert open_data(str(found(concept={"name": "red_mug"}, images=entries))).classes == ("red mug", "tea cup")


def test_changed_images_are_refused(found: Write, class_folder: Path) -> None:
    folder = found()
    with Image.open(class_folder / "mug" / "3.png") as picture:
        picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(class_folder / "mug" / "3.png")
    with pytest.raises(DataError, match=r"photos has changed since\. Run find again"):
        open_data(str(folder))


def test_images_that_are_gone_are_named(found: Write, class_folder: Path) -> None:
    """Keys do not count in the digest of the data: a file of another name is found out by them."""
    folder = found()
    (class_folder / "mug" / "7.png").rename(class_folder / "mug" / "8.png")
    with pytest.raises(DataError, match=r"speaks of 'mug/7\.png', which .*photos does not have"):
        open_data(str(folder))


def test_a_missing_image_that_counts_as_nothing_does_no_harm(found: Write, class_folder: Path) -> None:
    keys = open_data(str(class_folder)).keys
    folder = found(images=[image("gone.png", None), *(image(key, "mug") for key in keys)])
    assert open_data(str(folder)).keys == keys


def test_data_that_is_not_there_any_more(found: Write, class_folder: Path) -> None:
    folder = found()
    class_folder.rename(class_folder.with_name("elsewhere"))
    with pytest.raises(DataError, match=r"photos"):
        open_data(str(folder))


def test_no_selection_of_a_selection(found: Write) -> None:
    """Also of a part of one, and of itself, which would never end."""
    folder = found()
    inner = open_data(str(folder))
    for where in (str(folder), f"{folder}@stop", str(folder / FILE)):
        outer = folder.with_name("outer.json")
        content = json.loads((folder / FILE).read_text()) | {"data": {"where": where, "digest": inner.digest}}
        outer.write_text(json.dumps(content))
        with pytest.raises(DataError, match="is a selection too"):
            open_data(str(outer))


def test_nothing_counts_as_the_concept(found: Write, class_folder: Path) -> None:
    keys = open_data(str(class_folder)).keys
    with pytest.raises(DataError, match="no image that counts as 'mug'"):
        open_data(str(found(images=[image(key, "cup") for key in keys])))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "kind: Field required"),
        ("[]", "top level"),
        ("{", "top level: Invalid JSON"),
        ('{"kind": "something else"}', "kind: Input should be 'clip-unlearn find'"),
    ],
)
def test_other_json_is_not_of_find(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"other\.json is not a result of find") as refused:
        open_data(str(path))
    assert said in str(refused.value)
    assert "Give the folder that find wrote." in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"images": [{"key": "a"}]}, r"images\.0\.probability"),
        ({"concept": {"name": ""}}, r"not a result of find \(A name is empty\. Give every class a name\)"),
    ],
)
def test_a_later_or_damaged_file_is_refused(found: Write, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_selection(found(**changes))


def test_what_is_a_selection(found: Write, class_folder: Path) -> None:
    folder = found()
    assert [is_selection(path) for path in (folder, folder / FILE, Path("x.JSON"))] == [True, True, True]
    assert [is_selection(path) for path in (class_folder, Path("x.csv"), Path("nothing"))] == [False, False, False]
    assert all(map(names_selection, (str(folder), f"{folder}@stop", f"{folder / FILE}@audit", "x.json")))
    assert not any(map(names_selection, (str(class_folder), f"{class_folder}@stop", "sandbox:photo@select", "", "@")))
