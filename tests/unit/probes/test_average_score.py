"""The average score and other data, against counting by hand."""

from pathlib import Path

import pytest
import torch
from painted import paint

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UndefinedError
from clip_unlearn.maths.affine import remove_directions
from clip_unlearn.probes.evaluate.average_score import AverageScore
from clip_unlearn.probes.evaluate.other_data import OtherData

REQUEST = Request(forget=(Concept(name="red", synonyms=("crimson",)),))


@pytest.fixture
def clumsy(painter: Model) -> Model:
    """Return the model after an edit that takes green in place of red."""
    return painter.replace(outputs={"image": remove_directions(torch.tensor([[0, 1.0, 0]]), strength=1.0)})


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Return a set with 4 right answers of 5, of which 3 are green and 1 is blue."""
    return paint(tmp_path / "other", {"green": ["green", "green", "green", "blue"], "blue": ["blue"]})


def score(*readings: Reading) -> Reading:
    (found,) = readings
    assert (found.name, found.subject, found.better) == ("average score", "after", "low")
    return found


def test_a_hand_computation(painter: Model, clumsy: Model, photos: str, other: str) -> None:
    """Red keeps its 8 of 8, the others 8 of 16, the other set 1 of 4: (1 + 1/2 + 3/4) / 3."""
    found = score(*AverageScore(data=photos, others=(other,)).measure(painter, clumsy, REQUEST))
    assert found.value == pytest.approx((1 + 0.5 + 0.75) / 3)
    assert (found.of, found.count, found.interval) == ("1 other data set", 35, "Bootstrap over images, paired")
    assert found.low < found.value < found.high


def test_without_other_data_it_is_taken_over_the_same_data_alone(painter: Model, clumsy: Model, photos: str) -> None:
    found = score(*AverageScore(data=photos).measure(painter, clumsy, REQUEST))
    assert found.value == pytest.approx((1 + 0.5) / 2)
    assert found.of == "no other data sets"


def test_an_edit_that_changes_nothing(painter: Model, photos: str, other: str) -> None:
    found = score(*AverageScore(data=photos, others=(other,)).measure(painter, painter, REQUEST))
    assert (found.value, found.low, found.high) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_nothing_left_and_nothing_lost(painter: Model, photos: str, other: str) -> None:
    blind = painter.replace(outputs={"image": remove_directions(torch.tensor([[1.0, 0, 0]]), strength=1.0)})
    assert score(*AverageScore(data=photos, others=(other,)).measure(painter, blind, REQUEST)).value == 0


def test_what_was_never_right_has_no_relative_change(painter: Model, tmp_path: Path, other: str) -> None:
    unknown = paint(tmp_path / "unknown", {"red": ["blue", "green"], "green": ["green"]})
    with pytest.raises(UndefinedError, match=r"^Of 2 pictures of the classes to forget none was named right"):
        AverageScore(data=unknown).measure(painter, painter, REQUEST)
    lonely = paint(tmp_path / "lonely", {"red": ["red"], "green": []})
    with pytest.raises(UndefinedError, match=r"^Of 0 pictures of the other classes none .* Give data that"):
        AverageScore(data=lonely, others=(other,)).measure(painter, painter, REQUEST)


def test_other_data_are_counted_set_by_set(painter: Model, clumsy: Model, photos: str, other: str) -> None:
    readings = OtherData(others=(other, photos)).measure(painter, clumsy, REQUEST)
    told = [(one.name, one.of, one.subject, one.count) for one in readings[:3]]
    assert told == [("other data accuracy", other, subject, 5) for subject in ("before", "after", "change")]
    assert [one.value for one in readings[:3]] == pytest.approx([0.8, 0.2, -0.6])


def test_pictures_of_what_is_forgotten_do_not_count_in_other_data(painter: Model, clumsy: Model, photos: str) -> None:
    """Of 30 pictures, 10 are red; the 2 green ones that show blue and the 2 blue ones that show red are wrong."""
    before, after, _ = OtherData(others=(photos,)).measure(painter, clumsy, REQUEST)
    assert (before.count, before.value, after.value) == (20, 0.8, 0.4)
    by_synonym = Request(forget=(Concept(name="scarlet", synonyms=("Red",)),))
    assert OtherData(others=(photos,)).measure(painter, clumsy, by_synonym)[0].count == 20


def test_other_data_of_the_forgotten_alone_are_refused(painter: Model, tmp_path: Path) -> None:
    where = paint(tmp_path / "reds", {"red": ["red"]})
    with pytest.raises(DataError, match=r"shows nothing but what is to be forgotten\. Give other data\.$"):
        OtherData(others=(where,)).measure(painter, painter, REQUEST)


def test_what_was_learnt_from_is_refused_as_other_data(painter: Model, other: str) -> None:
    images = open_data(other)
    asked = REQUEST.model_copy(update={"evidence": Evidence(where=images.where, digest=images.digest)})
    with pytest.raises(DataError, match="share an image"):
        OtherData(others=(other,)).measure(painter, painter, asked)
