"""Runs that are interrupted and go on, methods that measure themselves, and measurements that are not defined."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from clip_unlearn import methods
from clip_unlearn.core import journal
from clip_unlearn.core.config import build
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.readings import share
from clip_unlearn.core.record import Reading, Record
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, SettingError, StorageError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.intervals import independent_difference
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.evaluate import zero_shot
from clip_unlearn.runs.plan import plan
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.runs.run import make_patch, run

STEPS = 4
calls: list[int] = []
INTERRUPTED_AT: list[int] = []
"""The step before which the method stops: no setting, so that the interrupted run and the next one are the same run."""


class Stepwise(Method):
    """Four random steps, until it is interrupted; says that it recognises 1 of 8 pictures of its own."""

    def forget(self, model, request):
        direction = torch.zeros(model.texts(["a mug"]).shape[1], 1)
        for number in range(STEPS):
            if number in INTERRUPTED_AT:
                raise KeyboardInterrupt
            direction += journal.step(["stepwise", number], partial(compute, number, len(direction)))["x"]
        hits = torch.tensor([True, *[False] * 7])
        change = AffineMap(down=direction, up=-1e-3 * direction.T)
        return Patch(outputs={"image": change}, readings=(share("synthetic forget accuracy", hits, "low", of="mug"),))


def compute(number: int, width: int) -> dict[str, torch.Tensor]:
    calls.append(number)
    return {"x": torch.randn(width, 1, generator=torch.Generator().manual_seed(number))}


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every recipe find the method of this file, and nothing be remembered of earlier tests."""
    monkeypatch.setattr(methods, "find", lambda name: Stepwise)
    calls.clear()
    INTERRUPTED_AT.clear()


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with five pictures of each of four classes of the embedded world."""
    folder = tmp_path_factory.mktemp("pictures")
    images = open_data("sandbox:photo")
    for name in ("mug", "cat", "car", "dog"):
        (folder / name).mkdir()
        own = [place for place, label in enumerate(images.labels) if images.classes[label] == name]
        for place in own[:5]:
            images.picture(place).save(folder / name / f"{place}.png")
    return str(folder)


def recipe(**values: object) -> Recipe:
    return build(Recipe, {"model": "sandbox", "forget": ["mug"], "retain": ["cat"], **values}, where="recipe")


def patch_bytes(out: Path) -> bytes:
    return (out / "patch" / "patch.safetensors").read_bytes()


def test_an_interrupted_run_goes_on_where_it_was(sandbox: Model, tmp_path: Path) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    run(recipe(), whole, model=sandbox)
    assert calls == [0, 1, 2, 3]
    INTERRUPTED_AT.append(2)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(), halted, model=sandbox)
    assert not halted.exists()
    assert len(list((tmp_path / "halted.journal").iterdir())) == 2
    INTERRUPTED_AT.clear()
    calls.clear()
    run(recipe(), halted, model=sandbox, resume=True)
    assert calls == [2, 3]
    assert patch_bytes(halted) == patch_bytes(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["halted", "whole"]


def test_without_resume_everything_is_done_again(sandbox: Model, tmp_path: Path) -> None:
    INTERRUPTED_AT.append(2)
    with pytest.raises(KeyboardInterrupt):
        run(recipe(), tmp_path / "out", model=sandbox)
    INTERRUPTED_AT.clear()
    calls.clear()
    run(recipe(), tmp_path / "out", model=sandbox)
    assert calls == [0, 1, 2, 3]


def test_what_was_done_outlives_a_failure_of_the_measurement(
    sandbox: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patcher:
        patcher.setattr("clip_unlearn.runs.run.summarise", failing)
        with pytest.raises(StorageError, match="no space left"):
            run(recipe(), tmp_path / "out", model=sandbox)
    assert not (tmp_path / "out").exists()
    calls.clear()
    run(recipe(), tmp_path / "out", model=sandbox, resume=True)
    assert calls == []


def test_what_the_method_measured_comes_with_the_patch(sandbox: Model, tmp_path: Path) -> None:
    patch = make_patch(sandbox, plan(recipe(), model=sandbox).request, Stepwise())
    assert patch.portable, "the map is folded into weights"
    assert patch.origin is not None
    (reading,) = patch.origin.measured
    assert (reading.name, reading.value, reading.count) == ("synthetic forget accuracy", 0.125, 8)
    record = run(recipe(), tmp_path / "out", model=sandbox)
    assert record.readings[-1] == reading
    assert Patch.from_pretrained(tmp_path / "out" / "patch").origin == record.origin
    assert not named(record, "synthetic minus real forget accuracy"), "nothing real was measured"


def test_the_record_says_how_far_synthetic_and_real_are_apart(sandbox: Model, tmp_path: Path, pictures: str) -> None:
    record = run(recipe(data=pictures, probes=["zero_shot"]), tmp_path / "out", model=sandbox)
    (own,) = named(record, "synthetic forget accuracy")
    (real,) = (one for one in named(record, "forget accuracy") if one.subject == "after")
    (apart,) = named(record, "synthetic minus real forget accuracy")
    assert apart.value == own.value - real.value
    assert (apart.low, apart.high) == independent_difference((1, 8), (round(5 * real.value), 5))
    assert (apart.subject, apart.better, apart.count) == ("change", "neither", 5)
    assert "Synthetic minus real forget accuracy" in (tmp_path / "out" / "summary.md").read_text()


def named(record: Record, name: str) -> list[Reading]:
    return [one for one in record.readings if one.name == name]


def test_a_measurement_that_is_not_defined_is_skipped_with_the_reason(sandbox: Model, tmp_path: Path) -> None:
    """Grey pictures are all the same class to the model, so at least one of two classes is never recognised."""
    for name in ("mug", "cat"):
        (tmp_path / "grey" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), (120, 120, 120 + len(name))).save(tmp_path / "grey" / name / "0.png")
    known = {one.of: one.value for one in zero_shot(sandbox, str(tmp_path / "grey"), templates=("a photo of a {}.",))}
    lost = next(name for name in ("mug", "cat") if known[name] == 0)
    asked = build(
        Recipe,
        {
            "model": "sandbox",
            "forget": [lost],
            "data": str(tmp_path / "grey"),
            "probes": ["average_score", "zero_shot"],
        },
        where="recipe",
    )
    record = run(asked, tmp_path / "out", model=sandbox)
    (skipped,) = record.skipped
    assert skipped.probe == "average_score"
    assert skipped.reason.startswith("Of 1 pictures of the classes to forget none was named right before the edit")
    assert named(record, "forget accuracy"), "the other probes are measured"


def test_other_data_are_measured_besides_what_is_named(sandbox: Model, pictures: str) -> None:
    ready = plan(recipe(data="sandbox", other_data=[pictures], probes=["drift"]), model=sandbox)
    assert [type(probe).__name__ for probe in ready.probes] == ["Drift", "OtherData", "AverageScore"]
    assert [probe.others for probe in ready.probes[1:]] == [(pictures,)] * 2
    bare = plan(recipe(other_data=[{"path": pictures, "split": "audit"}], probes=["drift"]), model=sandbox)
    assert [type(probe).__name__ for probe in bare.probes] == ["Drift", "OtherData"]
    assert bare.probes[1].others == (f"{pictures}@audit",)
    assert [skipped.probe for skipped in bare.skipped] == ["average_score"]


def test_without_other_data_the_probe_of_them_is_skipped(sandbox: Model) -> None:
    ready = plan(recipe(data="sandbox", probes=["other_data", "average_score"]), model=sandbox)
    assert [type(probe).__name__ for probe in ready.probes] == ["AverageScore"]
    assert [(one.probe, one.reason) for one in ready.skipped] == [
        ("other_data", "it needs other data, and none was given")
    ]


@pytest.mark.parametrize("twice", [lambda one: [one, one], lambda one: ["sandbox"]])
def test_other_data_that_are_given_twice_are_refused(
    sandbox: Model, pictures: str, twice: Callable[[str], list[str]]
) -> None:
    with pytest.raises(SettingError, match=r"are given twice\. Give other data for --other-data\.$"):
        plan(recipe(data="sandbox", other_data=twice(pictures)), model=sandbox)


def test_other_data_without_labels_are_refused(sandbox: Model, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"has no class labels to measure accuracy with\. Give labelled images\.$"):
        plan(recipe(other_data=[str(tmp_path)]), model=sandbox)
