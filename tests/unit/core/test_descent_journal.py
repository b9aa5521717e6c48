"""A training loop that was interrupted goes on from its journal and ends with the same bytes."""

import dataclasses
from pathlib import Path

import pytest
from descent_toys import apart, bytes_of, measured, task_of

from clip_unlearn.core import descent
from clip_unlearn.core.descent import descend
from clip_unlearn.core.journal import journaling
from clip_unlearn.core.training import Descent

SETTINGS = Descent(steps=7, rate=0.01, check_every=2, patience=9)


@pytest.fixture(autouse=True)
def at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write at every look instead of every ten seconds."""
    monkeypatch.setattr(descent, "SECONDS", 0.0)


class Halting:
    """A loss that is interrupted at one call, and no number at another."""

    def __init__(self, at: int | None = None, *, spoilt: int | None = None) -> None:
        self.at, self.spoilt, self.count = at, spoilt, 0

    def __call__(self, step):
        self.count += 1
        if self.count - 1 == self.at:
            raise KeyboardInterrupt
        return apart(step) * (float("nan") if self.count - 1 == self.spoilt else 1)


def interrupted(task, settings, folder: Path, *, resume: bool) -> list[Path]:
    with pytest.raises(KeyboardInterrupt), journaling(folder, resume=resume):
        descend(task, settings)
    return sorted(folder.iterdir()) if folder.exists() else []


def resumed(task, settings, folder: Path):
    with journaling(folder, resume=True):
        return descend(task, settings)


def check_same(found, wanted) -> None:
    assert bytes_of(found.model) == bytes_of(wanted.model)
    for name in ("marks", "best", "halved"):
        assert getattr(found, name) == getattr(wanted, name)


@pytest.mark.parametrize("examine", [measured, None], ids=["looks", "no looks"])
@pytest.mark.parametrize(("name", "at"), [("adafactor", 1), ("adafactor", 5), ("adam", 6), ("adamw", 3), ("sgd", 5)])
def test_an_interrupted_run_ends_with_the_same_bytes(tiny_clip, tmp_path, name, at, examine):
    settings = Descent(**{**SETTINGS.model_dump(), "optimiser": name, "weight_decay": 0.01})
    whole = descend(task_of(tiny_clip.model, examine=examine), settings)
    task = task_of(tiny_clip.model, Halting(at), examine=examine)
    files = interrupted(task, settings, tmp_path / "journal", resume=False)
    assert len(files) == (at >= 2), "the newest state alone"
    again = task_of(tiny_clip.model, examine=examine)
    check_same(resumed(again, settings, tmp_path / "journal"), whole)
    assert again.feed.asked == list(range(at // 2 * 2, 7)), "what is done is not done again"
    assert not (tmp_path / "journal").exists()


def test_interrupted_again_and_again(tiny_clip, tmp_path):
    """Two steps further each time, and never more than one state on the disk."""
    whole = descend(task_of(tiny_clip.model, examine=measured), SETTINGS)
    journal = tmp_path / "journal"
    for _ in range(2):
        task = task_of(tiny_clip.model, Halting(3), examine=measured)
        assert len(interrupted(task, SETTINGS, journal, resume=True)) == 1
    again = task_of(tiny_clip.model, examine=measured)
    check_same(resumed(again, SETTINGS, journal), whole)
    assert again.feed.asked == [4, 5, 6]


def test_a_halved_rate_is_remembered(tiny_clip, tmp_path):
    whole = descend(task_of(tiny_clip.model, Halting(spoilt=1), examine=measured), SETTINGS)
    assert whole.halved
    task = task_of(tiny_clip.model, Halting(6, spoilt=1), examine=measured)
    interrupted(task, SETTINGS, tmp_path / "journal", resume=False)
    check_same(resumed(task_of(tiny_clip.model, examine=measured), SETTINGS, tmp_path / "journal"), whole)


def test_patience_is_remembered(tiny_clip, tmp_path):
    """And where training had ended already, no step is taken."""

    def never(model):
        return dataclasses.replace(measured(model), forget_hits=9, forget_probability=0.5)

    settings = Descent(**{**SETTINGS.model_dump(), "patience": 3})
    whole = descend(task_of(tiny_clip.model, examine=never), settings)
    assert len(whole.marks) == 4
    interrupted(task_of(tiny_clip.model, Halting(5), examine=never), settings, tmp_path / "journal", resume=False)
    again = task_of(tiny_clip.model, examine=never)
    with pytest.raises(KeyboardInterrupt), journaling(tmp_path / "journal", resume=True):
        check_same(descend(again, settings), whole)
        raise KeyboardInterrupt
    assert again.feed.asked == [4, 5]
    last = task_of(tiny_clip.model, examine=never)
    check_same(resumed(last, settings, tmp_path / "journal"), whole)
    assert last.feed.asked == []


@pytest.mark.parametrize(
    "other",
    [{"rate": 0.02}, {"steps": 8}, {"optimiser": "sgd"}, {"weight_decay": 0.1}, {"check_every": 1}],
)
def test_a_state_of_other_settings_is_not_taken(tiny_clip, tmp_path, other):
    interrupted(task_of(tiny_clip.model, Halting(5)), SETTINGS, tmp_path / "journal", resume=False)
    task = task_of(tiny_clip.model, Halting(0))
    interrupted(task, Descent(**{**SETTINGS.model_dump(), **other}), tmp_path / "journal", resume=True)
    assert task.feed.asked == [0]


def test_a_state_of_another_task_is_not_taken(tiny_clip, tmp_path):
    interrupted(task_of(tiny_clip.model, Halting(5), key=["a", 1]), SETTINGS, tmp_path / "journal", resume=False)
    name = task_of(tiny_clip.model).weights[0]
    moved = tiny_clip.model.replace({name: tiny_clip.model.weights[name].detach() + 0.1})
    for task in (task_of(tiny_clip.model, key=["a", 2]), task_of(moved, key=["a", 1])):
        interrupted(dataclasses.replace(task, loss=Halting(0)), SETTINGS, tmp_path / "journal", resume=True)
        assert task.feed.asked == [0]
    task = task_of(tiny_clip.model, Halting(0), key=["a", 1])
    interrupted(task, SETTINGS, tmp_path / "journal", resume=True)
    assert task.feed.asked == [4]


def test_states_are_written_no_oftener_than_said(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(descent, "SECONDS", 1e6)
    assert interrupted(task_of(tiny_clip.model, Halting(6)), SETTINGS, tmp_path / "journal", resume=False) == []


def test_a_damaged_state_is_not_taken(tiny_clip, tmp_path):
    whole = descend(task_of(tiny_clip.model), SETTINGS)
    (file,) = interrupted(task_of(tiny_clip.model, Halting(5)), SETTINGS, tmp_path / "journal", resume=False)
    file.write_bytes(file.read_bytes()[:-9])
    task = task_of(tiny_clip.model)
    check_same(resumed(task, SETTINGS, tmp_path / "journal"), whole)
    assert task.feed.asked[0] == 0


def test_without_resume_training_starts_anew(tiny_clip, tmp_path):
    interrupted(task_of(tiny_clip.model, Halting(5)), SETTINGS, tmp_path / "journal", resume=False)
    task = task_of(tiny_clip.model, Halting(1))
    interrupted(task, SETTINGS, tmp_path / "journal", resume=False)
    assert task.feed.asked == [0, 1]
