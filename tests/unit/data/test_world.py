import pytest

from clip_unlearn.data import world as door
from clip_unlearn.data.open import SOURCES, open_data
from clip_unlearn.data.splits import check_disjoint
from clip_unlearn.errors import DataError, UnknownNameError
from clip_unlearn.sandbox import world
from clip_unlearn.sandbox.classes import CLASS_NAMES, DOMAINS, SPLITS


@pytest.fixture
def drawn(monkeypatch):
    places = []
    real = world.render
    monkeypatch.setattr(world, "render", lambda *place: (places.append(place), real(*place))[1])
    return places


def test_whole_world(drawn):
    images = open_data("sandbox")
    assert images.classes == CLASS_NAMES
    assert len(images) == len(CLASS_NAMES) * len(DOMAINS) * door.PICTURES
    assert all(images.labels.count(label) >= 100 for label in range(len(CLASS_NAMES)))
    assert images.keys[3] == "photo/mug/0003"
    assert (images.domains[0], images.domains[-1]) == (DOMAINS[0], DOMAINS[-1])
    assert len(set(images.contents)) == len(images)
    assert images.digest == open_data("sandbox", split="audit").digest
    assert drawn == []
    assert images.picture(3).mode == "RGB"
    assert drawn == [("mug", "photo", "audit", 3)]


def test_captions_are_made_when_read(drawn):
    images = open_data("sandbox:sketch")
    few = images.take([0, 5])
    assert drawn == []
    captions = few.captions[1]
    assert len(captions) == door.CAPTIONS
    assert all(captions)
    assert drawn == [("mug", "sketch", "audit", 5)]


def test_parts_are_the_streams_of_the_world(drawn):
    parts = {part: open_data("sandbox:photo", split=part) for part in ("stop", "select", "audit")}
    check_disjoint(**parts)
    assert {len(part) for part in parts.values()} == {len(CLASS_NAMES) * door.PICTURES}
    parts["select"].picture(0)
    assert drawn == [("mug", "photo", "select", 0)]
    assert open_data("sandbox:photo@select").digest == parts["select"].digest
    assert set(parts) < set(SPLITS)


@pytest.mark.parametrize(
    ("where", "kind", "match"),
    [
        ("sandbox:photos", UnknownNameError, "no domain 'photos'. Did you mean 'photo'?"),
        ("sandbx", UnknownNameError, "No data source 'sandbx'. Did you mean 'sandbox'?"),
        ("imagenet", UnknownNameError, "No data source 'imagenet'. Use one of: sandbox"),
        ("no/such/folder", DataError, "Data no/such/folder does not exist"),
        ("no/such.csv", DataError, "does not exist"),
        ("", DataError, "is empty"),
        ("a\0b", DataError, "NUL"),
    ],
)
def test_unknown_sources(where, kind, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=match):
        open_data(where)


def test_other_files(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="is not a kind of data that can be opened"):
        open_data(str(tmp_path / "a.zip"))


def test_sources_are_listed():
    assert "sandbox" in SOURCES
    assert all(SOURCES.values())
