"""Whether a name still tells its images apart: against counting pairs, on models whose embeddings are set by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.answers import answers
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError
from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.maths.ranking import change_interval, rank_groups
from clip_unlearn.maths.scores import cosines
from clip_unlearn.methods.project import Project
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.evaluate.over_forgetting import NAME, OverForgetting
from clip_unlearn.sandbox.classes import CLASS_NAMES


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


def asked(*names: str) -> Request:
    retain = tuple(name for name in CLASS_NAMES if name not in names)
    return Request(forget=tuple(Concept(name=name) for name in names), retain=retain)


def one(readings: tuple[Reading, ...], subject: str = "after", of: str = "") -> Reading:
    """Return the one reading with these labels."""
    (found,) = (reading for reading in readings if (reading.name, reading.subject, reading.of) == (NAME, subject, of))
    return found


def groups(model: Model, request: Request, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = open_data("sandbox:photo")
    index, known = images.class_index(name), answers(model, images, request)
    scores = cosines(known.embeddings, known.texts)[:, index]
    return scores[known.labels == index], scores[known.labels != index]


def test_the_share_of_pairs(sandbox: Model) -> None:
    request = asked("mug")
    edited = Project(strength=0.9).forget(sandbox, request).apply(sandbox)
    readings = OverForgetting(data="sandbox:photo").measure(sandbox, edited, request)
    was, now = (groups(model, request, "mug") for model in (sandbox, edited))
    for subject, (own, others) in (("before", was), ("after", now)):
        slow = float((own.unsqueeze(1) > others).double().mean())
        reading = one(readings, subject, "mug")
        assert reading.value == pytest.approx(slow, abs=1e-9)
        assert (reading.low, reading.high) == rank_groups(own, others).interval()
        assert (reading.count, reading.better) == (34, "neither")
    change = one(readings, "change", "mug")
    assert change.value == pytest.approx(one(readings, of="mug").value - one(readings, "before", "mug").value)
    assert (change.low, change.high) == change_interval(rank_groups(*was), rank_groups(*now))
    assert one(readings, "before").value > 0.95
    assert 0.9 < one(readings).value < 0.99


def test_a_single_class_is_its_own_mean(sandbox: Model) -> None:
    readings = OverForgetting(data="sandbox:photo").measure(sandbox, sandbox, asked("mug"))
    for subject in ("before", "after", "change"):
        assert one(readings, subject).model_copy(update={"of": "mug"}) == one(readings, subject, "mug")
    assert one(readings, "change").value == 0


def test_several_classes_have_a_mean_over_classes(sandbox: Model) -> None:
    request = asked("mug", "cat", "axe")
    edited = Project().forget(sandbox, request).apply(sandbox)
    readings = OverForgetting(data="sandbox:photo").measure(sandbox, edited, request)
    for subject in ("before", "after", "change"):
        values = [one(readings, subject, name).value for name in ("mug", "cat", "axe")]
        total = one(readings, subject)
        assert total.value == pytest.approx(sum(values) / 3)
        assert (total.count, total.interval) == (3, "Student")


def test_null_embeddings_say_nothing(sandbox: Model) -> None:
    nothing = remove_directions(torch.eye(64), strength=1.0)
    edited = sandbox.replace(outputs={"image": nothing})
    readings = OverForgetting(data="sandbox:photo").measure(sandbox, edited, asked("mug"))
    assert one(readings).value == 0.5


def test_turned_round_is_far_below(sandbox: Model) -> None:
    mirror = AffineMap(down=-2 * torch.eye(64), up=torch.eye(64))
    edited = sandbox.replace(outputs={"image": mirror})
    readings = OverForgetting(data="sandbox:photo").measure(sandbox, edited, asked("mug"))
    assert one(readings).value == pytest.approx(1 - one(readings, "before").value)


@pytest.mark.parametrize("others", [0, 2])
def test_a_class_without_images_or_without_others_has_none(sandbox: Model, tmp_path: Path, others: int) -> None:
    """A set that shows mugs alone has no others; one that names cats in no picture has no cats."""
    lines = [f"{number}.png,mug" for number in range(3)] + [f"{3 + number}.png,axe" for number in range(others)]
    for number in range(3 + others):
        Image.new("RGB", (16, 16), (number * 40, 0, 0)).save(tmp_path / f"{number}.png")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["filepath,label", *lines]))
    readings = OverForgetting(data=str(table)).measure(sandbox, sandbox, asked("mug"))
    assert len(readings) == (6 if others else 0)


def test_refusals(sandbox: Model, tmp_path: Path) -> None:
    probe: Any = OverForgetting(data="sandbox:photo")
    with pytest.raises(DataError, match="Did you mean 'mug'"):
        probe.measure(sandbox, sandbox, asked("mugg"))
