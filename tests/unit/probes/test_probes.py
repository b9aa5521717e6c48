"""Probes against plain counting, on a model whose answers are set by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError
from clip_unlearn.maths import intervals
from clip_unlearn.maths.affine import remove_directions
from clip_unlearn.probes.evaluate.drift import Drift
from clip_unlearn.probes.evaluate.name_sweep import NameSweep
from clip_unlearn.probes.evaluate.zero_shot import ZeroShot


def one(readings: Sequence[Reading], name: str, subject: str = "after", of: str = "") -> Reading:
    """Return the one reading with these labels."""
    found = [reading for reading in readings if (reading.name, reading.subject, reading.of) == (name, subject, of)]
    assert len(found) == 1
    return found[0]


REQUEST = Request(forget=(Concept(name="red"),), retain=("green", "blue"))


@pytest.fixture
def blind(painter: Model) -> Model:
    """Return the model without its red axis."""
    return painter.replace(outputs={"image": remove_directions(torch.tensor([[1.0, 0, 0]]), strength=1.0)})


def test_zero_shot_counts_what_one_would_count(painter: Model, blind: Model, photos: str) -> None:
    readings = ZeroShot(data=photos, neighbours=1).measure(painter, blind, REQUEST)
    assert one(readings, "forget accuracy", "before").value == 0.8
    assert one(readings, "forget accuracy").value == 0
    assert one(readings, "retain accuracy", "before").value == 0.8
    assert one(readings, "class accuracy", of="green").value == 0.8
    before, after = one(readings, "forget accuracy", "before"), one(readings, "forget accuracy")
    assert (before.low, before.high) == intervals.wilson(8, 10)
    assert (after.low, after.high, after.count, after.better) == (*intervals.wilson(0, 10), 10, "low")
    change = one(readings, "forget accuracy", "change")
    assert change.value == -0.8
    assert change.p_value == pytest.approx(2 * 0.5**8)
    assert (change.low, change.high) == intervals.paired_difference(0, 8, 10)


def test_zero_shot_ranks(painter: Model, blind: Model, photos: str) -> None:
    readings = ZeroShot(data=photos).measure(painter, blind, REQUEST)
    assert one(readings, "forget top-5 accuracy").value == 1
    assert one(readings, "forget mean reciprocal rank").value < 0.5
    assert one(readings, "forget mean reciprocal rank", "before").value > 0.8


def test_a_model_compared_with_itself_changes_nothing(painter: Model, photos: str) -> None:
    for probe in (ZeroShot(data=photos), NameSweep(data=photos)):
        for reading in probe.measure(painter, painter, REQUEST):
            assert reading.subject != "change" or reading.value == 0
            assert reading.p_value in (None, 1.0)


def test_name_sweep_finds_the_name_that_still_works(painter: Model, photos: str) -> None:
    texts = painter.adapter.text
    deaf = replace(
        painter,
        adapter=replace(
            painter.adapter,
            tokenize=lambda sentences: painter.adapter.tokenize([text.replace("red", "nothing") for text in sentences]),
            text=texts,
        ),
    )
    readings = NameSweep(data=photos, also=("crimson",), groups=("colour",)).measure(painter, deaf, REQUEST)
    assert one(readings, "name accuracy", of="red (name)").value == 0
    assert one(readings, "name accuracy", of="crimson (synonym)").value == 0.8
    worst = one(readings, "worst name accuracy", of="crimson (synonym)")
    named = [reading for reading in readings if reading.name == "name accuracy" and reading.subject == "after"]
    tried = sum("group word" not in reading.of for reading in named)
    assert (worst.low, worst.high) == intervals.clopper_pearson(8, 10, tests=tried)
    assert len(named) == tried + 1


def test_another_class_is_no_wording_of_this_one(painter: Model, photos: str) -> None:
    readings = NameSweep(data=photos, also=("green",)).measure(painter, painter, REQUEST)
    assert not [reading for reading in readings if reading.of.startswith("green")]


def test_drift(painter: Model, blind: Model, photos: str) -> None:
    readings = Drift(data=photos).measure(painter, blind, REQUEST)
    assert one(readings, "text drift").value == pytest.approx(1)
    images = one(readings, "image drift")
    assert images.value == pytest.approx(0.9, abs=0.01)
    assert images.count == 2
    same = Drift(data=photos).measure(painter, painter, REQUEST)
    assert one(same, "image drift").value == pytest.approx(1)
    texts_only = Drift().measure(painter, blind, REQUEST)
    assert [reading.name for reading in texts_only] == ["text drift"]


def test_a_class_that_is_not_there(painter: Model, photos: str) -> None:
    request = Request(forget=(Concept(name="rad"),))
    with pytest.raises(DataError, match="Did you mean 'red'"):
        ZeroShot(data=photos).measure(painter, painter, request)
