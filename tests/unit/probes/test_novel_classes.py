"""What attacks teach of themselves: on classes of colours that a model has no word for."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from painted import COLOURS, paint
from PIL import Image

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import NOVEL_ACCURACY, Reading
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.novel import NovelClass, open_novel
from clip_unlearn.data.open import open_data, opened_once
from clip_unlearn.probes.audit._few import Examples
from clip_unlearn.probes.audit._scene import Scene
from clip_unlearn.probes.audit.image_refit import ImageRefit
from clip_unlearn.probes.audit.prototype import Prototype
from clip_unlearn.probes.audit.relearning import Relearning
from clip_unlearn.runs.novel import held, novel_readings, shows_the_class, unknown

REQUEST = Request(forget=(Concept(name="red"),), retain=("green", "blue"))
STRANGE = {
    "kite": (255, 255, 0),
    "owl": (0, 255, 255),
    "tram": (255, 0, 255),
    "yak": (128, 255, 0),
    "violin": (255, 128, 0),
}


@pytest.fixture
def sources(tmp_path: Path) -> tuple[str, str]:
    """Return pictures to measure and to learn from."""
    every = {name: [name] * 3 for name in COLOURS}
    return paint(tmp_path / "measured", every), paint(tmp_path / "support", every, mark=9)


@pytest.fixture
def novel(tmp_path: Path, sources: tuple[str, str]) -> tuple[NovelClass, ...]:
    """Return five classes of one colour each that no word names, and crimson, which is red."""
    for place, (name, colour) in enumerate((STRANGE | {"crimson": (255, 0, 0)}).items()):
        (tmp_path / "new" / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("RGB", (8, 8), colour)
            picture.putpixel((0, 0), (number, place, 5))
            picture.save(tmp_path / "new" / name / f"{number}.png")
    measured, support = (open_data(where) for where in sources)
    return open_novel(str(tmp_path / "new"), measured, support, REQUEST)


def found(audit: Audit, model: Model, novel: Sequence[NovelClass]) -> tuple[tuple[Reading, ...], list[str]]:
    with opened_once(held(novel)):
        readings, skipped = novel_readings(audit, model, novel, REQUEST)
    return readings, [one.reason for one in skipped]


def test_a_class_that_the_model_names_is_not_new_to_it(painter: Model, novel: tuple[NovelClass, ...]) -> None:
    new, readings, skipped = unknown(painter, novel, REQUEST)
    assert [one.name for one in new] == sorted(STRANGE)
    assert {one.of.removeprefix("novel class "): one.value for one in readings} == dict.fromkeys(STRANGE, 0) | {
        "crimson": 1
    }
    assert {(one.name, one.subject, one.count) for one in readings} == {(NOVEL_ACCURACY, "reference", 2)}
    ((left_out, why),) = [(one.probe, one.reason) for one in skipped]
    assert (left_out, why) == ("novel class crimson", "the original names 100% of its images, so it is not new to it")


def test_fewer_than_five_say_nothing(painter: Model, novel: tuple[NovelClass, ...]) -> None:
    new, readings, skipped = unknown(painter, novel[:5], REQUEST)  # crimson is the first of the alphabet
    assert (new, len(readings)) == ((), 5)
    assert skipped[-1].reason == "the original does not know 4 of 5, and 5 are needed"


def test_an_attack_that_is_shown_a_class_teaches_one_that_is_new(
    painter: Model, sources: tuple[str, str], novel: tuple[NovelClass, ...]
) -> None:
    """A prototype is the very colour, which no other class has: all are named right, though no word names them."""
    audit = Prototype(data=sources[0], split="all", support=sources[1], shots=(1,))
    new = unknown(painter, novel, REQUEST)[0]
    readings, skipped = found(audit, painter, new)
    assert skipped == []
    assert [(one.of, one.value) for one in readings] == [(f"novel class {name}", 1.0) for name in sorted(STRANGE)]
    assert {(one.name, one.subject, one.count) for one in readings} == {("1-shot prototype accuracy", "reference", 2)}


def test_the_original_is_attacked_once(
    painter: Model, sources: tuple[str, str], novel: tuple[NovelClass, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Model] = []
    own = Prototype._found

    def count(self: Prototype, model: Model, scene: Scene, examples: Examples) -> dict[int, torch.Tensor]:
        asked.append(model)
        return own(self, model, scene, examples)

    monkeypatch.setattr(Prototype, "_found", count)
    found(Prototype(data=sources[0], split="all", support=sources[1], shots=(1,)), painter, novel)
    assert asked == [painter] * len(novel)


def test_too_few_images_of_a_new_class_leave_it_out(
    painter: Model, sources: tuple[str, str], novel: tuple[NovelClass, ...]
) -> None:
    audit = Prototype(data=sources[0], split="all", support=sources[1], shots=(3,))
    readings, skipped = found(audit, painter, unknown(painter, novel, REQUEST)[0])
    assert readings == ()
    assert len(skipped) == 5
    assert "it learns from 3 images of 'kite'" in skipped[0]


def test_only_attacks_that_are_shown_the_class_are_made(
    painter: Model, sources: tuple[str, str], novel: tuple[NovelClass, ...]
) -> None:
    audit = ImageRefit(data=sources[0], split="all", support=sources[1])
    assert not shows_the_class(audit)
    assert found(audit, painter, novel) == ((), [])


def test_a_new_class_has_to_be_learned_as_well_as_the_forgotten(
    painter: Model, sources: tuple[str, str], novel: tuple[NovelClass, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The original names none of its images, so a part of that would be reached without a step."""
    asked: list[float | None] = []

    def measure(self: Relearning, before: Model, after: Model, request: Request) -> tuple[Reading, ...]:
        asked.append(self.target)
        return ()

    monkeypatch.setattr(Relearning, "measure", measure)
    monkeypatch.setattr("clip_unlearn.probes.audit._scene.Scene.hits", lambda *_: torch.tensor([True, False]))
    audit = Relearning(data=sources[0], split="all", support=sources[1], share=0.5)
    found(audit, painter, novel[:2])
    assert asked == [0.25, 0.25]
