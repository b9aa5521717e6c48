import io
import json
import tarfile

import pytest

from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError


def pack(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def test_one_shard(tmp_path, encode):
    members = []
    for index, label in enumerate(["mug", "fire_truck", "mug"]):
        members += [(f"{index:04d}.png", encode(index, size=(4 + index, 4))), (f"{index:04d}.cls", label + "\n")]
        members += [(f"{index:04d}.other.txt", "ignored"), (f"{index:04d}.npy", b"\0")]
    images = open_data(pack(tmp_path / "a.tar", members))
    assert images.keys == ("0000", "0001", "0002")
    assert (images.classes, images.labels) == (("fire truck", "mug"), (1, 0, 1))
    assert [images.picture(index).width for index in (2, 0, 1)] == [6, 4, 5]


def test_captions(tmp_path, encode):
    members = [
        ("d/a.jpg", encode(1, "JPEG")),
        ("d/a.txt", "one\ntwo\n\n"),
        ("d/b.webp", encode(2, "WEBP")),
        ("d/b.json", json.dumps({"caption": "three", "url": "x"})),
        ("c/b.PNG", encode(3)),
    ]
    images = open_data(pack(tmp_path / "a.tar", members))
    assert images.keys == ("d/a", "d/b", "c/b")
    assert images.captions == (("one", "two"), ("three",), ())
    assert images.classes == ()


def test_benchmark_layout(tmp_path, encode):
    (tmp_path / "classnames.txt").write_text("tench\ngold_fish\n")
    for shard in range(11):
        members = [(f"{i}.jpg", encode(shard * 2 + i, "JPEG")) for i in range(2)] + [
            (f"{i}.cls", str(i)) for i in range(2)
        ]
        pack(tmp_path / "test" / f"{shard}.tar", members)
    for where in (tmp_path, tmp_path / "test"):
        images = open_data(str(where))
        assert (images.classes, images.labels) == (("tench", "gold fish"), (0, 1) * 11)
        assert images.keys[:2] == ("0/0", "0/1")
        assert images.keys[-1] == "10/1"
        assert len(set(images.contents)) == 22
    alone = open_data(str(tmp_path / "test" / "3.tar"))
    assert alone.classes == ("tench", "gold fish")


def test_labels_in_json(tmp_path, encode):
    (tmp_path / "classnames.txt").write_text("tench\ngoldfish\n")
    images = open_data(pack(tmp_path / "a.tar", [("a.png", encode(1)), ("a.json", '{"label": 1}')]))
    assert images.labels == (1,)


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "..", "x/.."])
def test_members_that_lead_out(tmp_path, encode, name):
    where = pack(tmp_path / "a.tar", [("ok.png", encode(1)), (name, encode(2))])
    with pytest.raises(DataError, match="leads out of the file"):
        open_data(where)


def test_links_and_devices_are_not_images(tmp_path, encode):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.LNKTYPE), ("c.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(DataError, match="holds no images"):
        open_data(str(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        ([("a.cls", "0"), ("b.cls", "1")], "numbers without names"),
        ([("a.cls", "mug")], "1 of 2 samples have no label"),
        ([("a.json", "{")], "the .json of sample 'a' is not JSON"),
        ([("a.txt", b"\xff")], "is not UTF-8"),
        ([("a.txt", b"x" * 1_000_001)], "larger than 1 MB"),
        ([("c.txt", "no picture")], "sample 'c' has no image"),
        ([("a.jpg", b"")], "is a second 'jpg' of sample 'a'"),
        ([("a.txt", "x"), ("a.txt", "y")], "is a second 'txt' of sample 'a'"),
        ([("a.cls", "m\x07"), ("b.cls", "cat")], "class name .* cannot be used"),
    ],
)
def test_malformed_samples(tmp_path, encode, texts, match):
    where = pack(tmp_path / "a.tar", [("a.png", encode(1)), ("b.png", encode(2)), *texts])
    with pytest.raises(DataError, match=match):
        open_data(where)


def test_label_beyond_the_names(tmp_path, encode):
    (tmp_path / "classnames.txt").write_text("tench\n")
    where = pack(tmp_path / "a.tar", [("a.png", encode(1)), ("a.cls", "1")])
    with pytest.raises(DataError, match="label 1 is beyond the 1 names"):
        open_data(where)


def test_damaged_and_compressed_files(tmp_path, encode):
    for content in (b"", b"x" * 5000):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(DataError, match=r"not a sound, uncompressed tar|holds no images"):
            open_data(str(tmp_path / "a.tar"))
    where = pack(tmp_path / "b.tar", [("a.png", encode(1))], mode="w:gz")
    with pytest.raises(DataError, match="not a sound, uncompressed tar"):
        open_data(where)
    where = pack(tmp_path / "c.tar", [("a.png", encode(1, size=(64, 64))), ("b.png", encode(2, size=(64, 64)))])
    content = (tmp_path / "c.tar").read_bytes()
    (tmp_path / "c.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a sound, uncompressed tar"):
        open_data(where)


def test_negative_size_ends(tmp_path, encode):
    where = pack(tmp_path / "a.tar", [("a.png", encode(1)), ("b.png", encode(2))])
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[124:136] = b"\xff" * 10 + b"\xfc\x00"
    checksum = sum(content[:148]) + sum(content[156:512]) + 8 * 32
    content[148:156] = f"{checksum:06o}\0 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(content))
    with pytest.raises(DataError):
        open_data(where)


def test_equal_names_in_two_shards(tmp_path, encode):
    for name in ("a", "b"):
        pack(tmp_path / "shards" / f"{name}.tar", [("0.png", encode(ord(name)))])
    images = open_data(str(tmp_path / "shards"))
    assert images.keys == ("a/0", "b/0")
    assert len(set(images.contents)) == 2
