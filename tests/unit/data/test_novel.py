"""Classes that a model does not know, in the place of one to forget: what is measured and what is learned from."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.novel import FEWEST, open_novel
from clip_unlearn.data.open import open_data, opened_once
from clip_unlearn.data.splits import split
from clip_unlearn.errors import DataError

REQUEST = Request(forget=(Concept(name="red", synonyms=("crimson",)),), retain=("green",))
STRANGE = ("kite", "owl", "tram", "violin", "yak")


def pictures(folder: Path, mark: int, count: int, names: tuple[str, ...]) -> ImageSet:
    """Return so many pictures of each class, no two alike."""
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (8, 8), (mark, place, number)).save(folder / name / f"{number}.png")
    return open_data(str(folder))


@pytest.fixture
def known(tmp_path: Path) -> tuple[ImageSet, ImageSet]:
    """Return images to measure and to learn from, of the class to forget and two others."""
    names = ("blue", "green", "red")
    return pictures(tmp_path / "measured", 1, 2, names), pictures(tmp_path / "support", 2, 3, (*names, "crimson"))


def test_a_novel_class_stands_in_the_place_of_the_forgotten(tmp_path: Path, known: tuple[ImageSet, ImageSet]) -> None:
    pictures(tmp_path / "new", 3, 4, STRANGE)
    found = open_novel(str(tmp_path / "new"), *known, REQUEST)
    assert [one.name for one in found] == list(STRANGE)
    owl = found[1]
    assert owl.measured.classes == ("blue", "green", "owl")
    assert owl.measured.labels == (2, 2)
    assert owl.request(REQUEST) == Request(forget=(Concept(name="owl"),), retain=("green",))
    among_nouns = REQUEST.model_copy(update={"background": ("door", "Owl")})
    assert owl.request(among_nouns).background == ("door",)
    shown = [owl.support.classes[label] for label in owl.support.labels]
    assert shown == [*("blue",) * 3, *("green",) * 3, *("owl",) * 2]  # neither the forgotten nor its synonym
    assert not set(owl.support.contents) & set(owl.measured.contents)


def test_pictures_and_contents_are_those_of_their_sources(tmp_path: Path, known: tuple[ImageSet, ImageSet]) -> None:
    new = pictures(tmp_path / "new", 3, 4, STRANGE)
    owl = open_novel(str(tmp_path / "new"), *known, REQUEST)[1]
    for place, each in enumerate(owl.support.keys):
        part, key = each.split(": ")
        source = known[1] if part == "known" else new
        there = source.keys.index(key)
        assert owl.support.content(place) == source.content(there)
        assert owl.support.picture(place).tobytes() == source.picture(there).tobytes()


def test_sets_that_are_open_are_known_by_their_names(known: tuple[ImageSet, ImageSet]) -> None:
    with opened_once({"here": known[0]}):
        assert open_data("here") is known[0]
    with pytest.raises(DataError, match="here"):
        open_data("here/")


def test_what_is_no_novel_class_is_refused(tmp_path: Path, known: tuple[ImageSet, ImageSet]) -> None:
    pictures(tmp_path / "few", 4, 4, STRANGE[: FEWEST - 1])
    with pytest.raises(DataError, match=f"has images of 4 classes. Give {FEWEST} or more"):
        open_novel(str(tmp_path / "few"), *known, REQUEST)
    for name in ("Blue", "crimson"):
        pictures(tmp_path / name, 5, 4, (*STRANGE, name))
        with pytest.raises(DataError, match=f"Class '{name}' .* is told apart already"):
            open_novel(str(tmp_path / name), *known, REQUEST)
    taught = split(pictures(tmp_path / "shared", 6, 2, STRANGE), "stop")
    copied = next(each for each in taught.keys if each.startswith("yak"))
    (tmp_path / "shared" / "zebra").mkdir()
    shutil.copy(tmp_path / "shared" / copied, tmp_path / "shared" / "zebra" / "0.png")
    with pytest.raises(DataError, match="Class 'zebra' .* has no image of its own"):
        open_novel(str(tmp_path / "shared"), *known, REQUEST)
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "metadata.csv").write_text("file_name,text\na.png,an owl\n")
    Image.new("RGB", (8, 8)).save(flat / "a.png")
    pictures(tmp_path / "new", 3, 4, STRANGE)
    with pytest.raises(DataError, match="no class labels for an attack to learn from"):
        open_novel(str(tmp_path / "new"), known[0], open_data(str(flat)), REQUEST)
