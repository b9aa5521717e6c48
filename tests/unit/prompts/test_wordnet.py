"""An installed WordNet, read by NLTK from a tiny database that is written here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nltk import data

from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.prompts import wordnet

SENSES = {
    "sofa": ("sofa", "couch", "lounge"),
    "couch": ("couch", "pallet"),
    "chest": ("chest_of_drawers", "chest", "bureau", "dresser"),
    "bank": ("depository_financial_institution", "bank"),
    "river": ("bank",),
    "mouse": ("mouse",),
    "many": tuple(f"word_{letter}" for letter in "abcdefghijk"),
}
"""Words of each sense."""

ORDER = {"couch": ("sofa", "couch"), "bank": ("river", "bank")}
"""Senses of a word by frequency, where it has several."""

HEADER = "  1 WordNet 3.0 Copyright of no one: a database for tests\n"


def write_wordnet(folder: Path) -> Path:
    """Write the noun files of a WordNet 3.0 (wndb(5WN)) with true byte offsets, and the others empty."""
    folder.mkdir(parents=True)
    for part in ("adj", "adv", "verb"):
        for name in (f"index.{part}", f"data.{part}"):
            (folder / name).write_text(HEADER)
        (folder / f"{part}.exc").write_text("")
    (folder / "noun.exc").write_text("mice mouse\n")
    (folder / "lexnames").write_text("00\tadj.all\t3\n01\tnoun.all\t1\n")
    (folder / "cntlist.rev").write_text("")
    text, offsets = HEADER, {}
    for sense, words in SENSES.items():
        offsets[sense] = len(text.encode())
        listed = " ".join(f"{word} 0" for word in words)
        text += f"{offsets[sense]:08d} 01 n {len(words):02x} {listed} 000 | what {sense} means  \n"
    (folder / "data.noun").write_text(text)
    index, keys = HEADER, ""
    for word in sorted({word for words in SENSES.values() for word in words}):
        found = ORDER.get(word) or tuple(sense for sense, words in SENSES.items() if word in words)
        places = " ".join(f"{offsets[sense]:08d}" for sense in found)
        index += f"{word} n {len(found)} 0 {len(found)} 0 {places}  \n"
        keys += "".join(f"{word}%1:01:{n:02d}:: {offsets[sense]:08d} {n + 1} 0\n" for n, sense in enumerate(found))
    (folder / "index.noun").write_text(index)
    (folder / "index.sense").write_text(keys)
    return folder


@pytest.fixture
def search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let NLTK look into an empty folder only. It refuses folders that others may write to."""
    before = os.umask(0o022)
    folder = tmp_path / "nltk_data"
    folder.mkdir()
    monkeypatch.setattr(data, "path", [str(folder)])
    yield folder
    os.umask(before)


@pytest.fixture
def installed(search_path: Path) -> Path:
    return write_wordnet(search_path / "corpora" / "wordnet")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("sofa", ("couch", "lounge")),
        ("Sofa", ("couch", "lounge")),
        ("couch", ("sofa", "lounge")),
        ("sofas", ("sofa", "couch", "lounge")),
        ("chest of drawers", ("chest", "bureau", "dresser")),
        ("Chest_of  drawers", ("chest", "bureau", "dresser")),
        ("bureau", ("chest of drawers", "chest", "dresser")),
        ("bank", ()),
        ("depository financial institution", ("bank",)),
        ("mice", ("mouse",)),
        ("lion", ()),
        ("", ()),
    ],
)
@pytest.mark.usefixtures("installed")
def test_words_of_the_first_sense(asked: str, found: tuple[str, ...]) -> None:
    assert wordnet.available()
    assert wordnet.synonyms(asked) == found


@pytest.mark.usefixtures("installed")
def test_at_most_eight() -> None:
    assert wordnet.synonyms("word c") == tuple(f"word {letter}" for letter in "abdefghi")


def test_the_archive_as_it_was_downloaded(search_path: Path, tmp_path: Path) -> None:
    write_wordnet(tmp_path / "unpacked" / "wordnet")
    (search_path / "corpora").mkdir()
    shutil.make_archive(str(search_path / "corpora" / "wordnet"), "zip", tmp_path / "unpacked", "wordnet")
    assert wordnet.available()
    assert wordnet.synonyms("sofa") == ("couch", "lounge")


@pytest.mark.usefixtures("search_path")
def test_without_the_corpus() -> None:
    assert not wordnet.available()
    with pytest.raises(UnsupportedError, match="no WordNet on this machine.*nltk.downloader wordnet"):
        wordnet.synonyms("sofa")


@pytest.mark.usefixtures("installed")
def test_without_nltk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    assert not wordnet.available()
    with pytest.raises(UnsupportedError, match=r"pip install 'clip-unlearn\[wordnet\]'"):
        wordnet.synonyms("sofa")


def lose_a_file(folder: Path) -> None:
    (folder / "data.noun").unlink()


def lose_lines(folder: Path) -> None:
    path = folder / "data.noun"
    path.write_text(path.read_text()[: len(HEADER)])


def shift_offsets(folder: Path) -> None:
    path = folder / "data.noun"
    path.write_text(" " + path.read_text())


def break_the_index(folder: Path) -> None:
    (folder / "index.noun").write_text(f"{HEADER}sofa n one 0 1 0 00000000\n")


def break_a_line(folder: Path) -> None:
    (folder / "index.noun").write_text(f"{HEADER}sofa n 1 0\n")


@pytest.mark.parametrize("damage", [lose_a_file, lose_lines, shift_offsets, break_the_index, break_a_line])
def test_a_damaged_corpus(installed: Path, damage: Callable[[Path], None]) -> None:
    damage(installed)
    with pytest.raises(DataError, match="cannot be read: .* Install it again") as caught:
        wordnet.synonyms("sofa")
    assert "\n" not in str(caught.value)
    assert str(installed) in str(caught.value)


def test_nltk_is_imported_when_it_is_used() -> None:
    code = "import sys, clip_unlearn.prompts.wordnet; sys.exit('nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
