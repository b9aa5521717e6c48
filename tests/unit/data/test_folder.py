import json
import os

import pytest

from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError


def test_class_folders(class_folder):
    images = open_data(str(class_folder))
    assert images.classes == ("fire truck", "mug")
    assert images.keys[:2] == ("fire_truck/0.png", "fire_truck/1.png")
    assert images.labels == (0,) * 8 + (1,) * 8
    assert (images.captions, images.domains, images.where) == ((), (), str(class_folder))
    assert images.picture(3).size == (8, 6)


def test_parts_of_a_folder(class_folder):
    parts = [open_data(str(class_folder), split=part) for part in ("stop", "select", "audit")]
    assert [len(part) for part in parts] == [4, 4, 8]
    assert [part.where for part in parts] == [f"{class_folder}@{name}" for name in ("stop", "select", "audit")]
    assert [open_data(part.where).digest for part in parts] == [part.digest for part in parts]
    with pytest.raises(DataError, match="names the part 'stop' and the split is 'audit'"):
        open_data(parts[0].where, split="audit")


def test_nested_hidden_and_other_files(class_folder, encode):
    (class_folder / "mug" / "deep" / "er").mkdir(parents=True)
    (class_folder / "mug" / "deep" / "er" / "x.JPG").write_bytes(encode(7, "JPEG"))
    (class_folder / "mug" / ".x.png").write_bytes(b"")
    (class_folder / "mug" / "notes.txt").write_text("hello")
    (class_folder / ".hidden").mkdir()
    (class_folder / ".hidden" / "x.png").write_bytes(b"")
    (class_folder / "empty").mkdir()
    images = open_data(str(class_folder))
    assert len(images) == 17
    assert images.keys[-1] == "mug/deep/er/x.JPG"
    assert images.classes == ("fire truck", "mug")


def test_plain_images_have_no_labels(class_folder):
    images = open_data(str(class_folder / "mug"))
    assert (images.classes, images.labels, len(images)) == ((), (), 8)


@pytest.mark.parametrize("nested", [False, True])
def test_empty_folder(tmp_path, nested):
    if nested:
        (tmp_path / "mug").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_data(str(tmp_path))


def test_split_folders_ask_for_the_inner_one(class_folder):
    outer = class_folder.parent / "outer"
    outer.mkdir()
    class_folder.rename(outer / "train")
    with pytest.raises(DataError, match=r"holds splits \(train\), not classes. Give .*train"):
        open_data(str(outer))
    assert len(open_data(str(outer / "train"))) == 16


def test_loose_images_beside_classes(class_folder, encode):
    (class_folder / "cover.png").write_bytes(encode(5))
    with pytest.raises(DataError, match=r"'cover.png' lies beside the class folders"):
        open_data(str(class_folder))


def test_links_stay_inside(class_folder, encode):
    (class_folder.parent / "secret.png").write_bytes(encode(5))
    (class_folder / "mug" / "link.png").symlink_to(class_folder.parent / "secret.png")
    with pytest.raises(DataError, match="is a link out of"):
        open_data(str(class_folder))


def test_names_that_are_not_unicode(class_folder, encode):
    odd = os.fsencode(class_folder / "mug") + b"/caf\xe9.png"
    with open(odd, "wb") as file:
        file.write(encode(5))
    images = open_data(str(class_folder))
    assert images.keys[-1] == "mug/caf\\xe9.png"
    assert images.picture(16).size == (8, 6)
    os.rename(os.fsencode(class_folder / "mug"), os.fsencode(class_folder) + b"/m\xfcg")
    with pytest.raises(DataError, match=r"class name .* cannot be used"):
        open_data(str(class_folder))


def test_decomposed_names_are_found(class_folder, encode):
    (class_folder / "cafe\u0301").mkdir()
    (class_folder / "cafe\u0301" / "e\u0301.png").write_bytes(encode(5))
    images = open_data(str(class_folder))
    assert images.classes[0] == "caf\u00e9"
    assert images.picture(0).size == (8, 6)


def test_control_characters_in_a_class_name(class_folder):
    (class_folder / "mug").rename(class_folder / "m\x07g")
    with pytest.raises(DataError, match=r"class name 'm\\x07g' cannot be used"):
        open_data(str(class_folder))


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_metadata_gives_captions(class_folder, ending):
    rows = [{"file_name": f"mug/{index}.png", "text": f"a mug, {index}"} for index in range(3)]
    if ending == "jsonl":
        text = "\n".join(json.dumps({**row, "size": 4}) for row in rows) + "\n\n"
    else:
        text = "file_name,text\n" + "".join(f'{row["file_name"]},"{row["text"]}"\n' for row in rows)
    (class_folder / f"metadata.{ending}").write_text(text)
    images = open_data(str(class_folder))
    assert images.keys == ("mug/0.png", "mug/1.png", "mug/2.png")
    assert images.captions == (("a mug, 0",), ("a mug, 1",), ("a mug, 2",))
    assert images.picture(2).size == (8, 6)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{]", "line 1 is not JSON"),
        ("[" * 5000, "line 1 is not JSON"),
        ("[1]", "line 1 is not an object"),
        ("", "no column"),
    ],
)
def test_malformed_metadata(class_folder, text, match):
    (class_folder / "metadata.jsonl").write_text(text)
    with pytest.raises(DataError, match=match):
        open_data(str(class_folder))


def test_files_that_vanish_or_are_too_large(class_folder):
    images = open_data(str(class_folder))
    (class_folder / "mug" / "0.png").unlink()
    (class_folder / "mug" / "1.png").write_bytes(b"\0" * 20_000_002)
    (class_folder / "mug" / "2.png").unlink()
    (class_folder / "mug" / "2.png").mkdir()
    for index, match in (
        (8, "mug/0.png: no such file"),
        (9, "mug/1.png: larger than 20 MB"),
        (10, "mug/2.png: no such"),
    ):
        with pytest.raises(DataError, match=match):
            images.picture(index)
    assert len(images.contents) == 16


def test_pipes_are_not_waited_for(class_folder):
    os.mkfifo(class_folder / "mug" / "pipe.png")
    images = open_data(str(class_folder))
    with pytest.raises(DataError, match=r"mug/pipe.png: no such file"):
        images.picture(16)
