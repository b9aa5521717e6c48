"""Copies of pictures that a file's digest does not find."""

from pathlib import Path

import pytest
from known import original
from PIL import Image
from test_probes import one

from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.evaluate.near_duplicates import NearDuplicates, difference_hash

ASKED = Request(forget=(Concept(name="cat"),), retain=("mug",))


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Return a folder with four pictures of a cat and two of a mug."""
    return written(tmp_path / "measured", {"cat": range(4), "mug": range(2)})


def written(folder: Path, wanted: dict[str, range], size: int = 0) -> str:
    for name, places in wanted.items():
        (folder / name).mkdir(parents=True)
        images = open_data(f"sandbox:photo@{'audit' if not size or name == 'cat' else 'select'}")
        rows = [row for row, label in enumerate(images.labels) if images.classes[label] == name]
        for place in places:
            picture = images.picture(rows[place])
            shown = picture.resize((size, size)) if size else picture
            shown.save(folder / name / f"{place}.png")
    return str(folder)


def test_a_copy_of_another_size_is_found(photos: str, tmp_path: Path) -> None:
    copies = written(tmp_path / "learned", {"cat": range(1), "mug": range(2, 4)}, size=96)
    found = NearDuplicates(data=photos, split="all", support=copies).measure(original(), original(), ASKED)
    assert (one(found, "near copies").value, one(found, "near copies").count) == (0.25, 4)
    (pair,) = (reading for reading in found if reading.name == "cosine of near copies")
    assert pair.value > 0.98
    assert pair.of == f"cat/0.png ~ {copies}: cat/0.png"


def test_the_evidence_is_looked_through(photos: str, tmp_path: Path) -> None:
    copies = written(tmp_path / "learned", {"cat": range(2), "mug": range(2, 4)}, size=96)
    images = open_data(copies)
    asked = Request(**(ASKED.model_dump() | {"evidence": Evidence(where=copies, digest=images.digest).model_dump()}))
    found = NearDuplicates(data=photos, split="all", listed=1).measure(original(), original(), asked)
    assert one(found, "near copies").value == 0.5
    assert len(found) == 2


def test_other_pictures_are_no_copies(photos: str, tmp_path: Path) -> None:
    others = written(tmp_path / "learned", {"cat": range(5, 9)}, size=96)
    found = NearDuplicates(data=photos, split="all", support=others).measure(original(), original(), ASKED)
    assert one(found, "near copies").value == 0
    with pytest.raises(UndefinedError, match="no images were learned from"):
        NearDuplicates(data=photos, split="all").measure(original(), original(), ASKED)


def test_both_conditions_count(photos: str, tmp_path: Path) -> None:
    copies = written(tmp_path / "learned", {"cat": range(1)}, size=96)
    strict = NearDuplicates(data=photos, split="all", support=copies, cosine=1.0)
    assert one(strict.measure(original(), original(), ASKED), "near copies").value == 0
    for place in range(4):
        path = Path(photos) / "cat" / f"{place}.png"
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    lenient = NearDuplicates(data=photos, split="all", support=copies, cosine=0.5)
    assert one(lenient.measure(original(), original(), ASKED), "near copies").value == 0


def test_a_hash_by_hand() -> None:
    picture = Image.new("L", (9, 8), 10)
    assert not bool(difference_hash(picture).any())
    picture.putpixel((3, 2), 20)
    assert difference_hash(picture).nonzero().tolist() == [[2 * 8 + 3]]
