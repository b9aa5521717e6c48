"""`tune` as a user runs it, on the embedded world: trials, plot and a recipe that `forget` takes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rich.console  # noqa: F401  It keeps the environment of its first import, which must not be a test's.
from in_process import main

from clip_unlearn.core.record import Record
from clip_unlearn.data import world
from clip_unlearn.errors import DivergedError
from clip_unlearn.methods.ccup import Ccup
from clip_unlearn.methods.project import Project
from clip_unlearn.runs import tune_trial
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.runs.tuned import NOTE, Tuning

MUG = ["--model", "sandbox", "--forget", "mug", "--data", "sandbox:photo", "--background", "none"]
ONE = ["tune", *MUG, "--method", "project", "--search", "strength=0.05:1", "--trials", "6"]
TWO = ["tune", *MUG, "--method", "ccup", "--search", "strength=0.05:1", "--search", "convention=R,C", "--trials", "4"]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty folder and return what it wrote to stdout."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, code: int = 0) -> str:
        found = main(monkeypatch, *arguments)
        shown = capsys.readouterr()
        assert found == code, shown.err
        return shown.err if code else shown.out

    return call


def tuning(folder: Path) -> Tuning:
    return Tuning.model_validate_json((folder / "tune.json").read_text(encoding="utf-8"))


def without_seconds(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "tune.json").read_text(encoding="utf-8"))
    for trial in found["trials"]:
        trial["seconds"] = 0
    return {**found, "command": ""}


def test_one_setting_is_bisected_and_forget_takes_the_recipe(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[str] = []
    real = world.open_world
    monkeypatch.setattr(world, "open_world", lambda *a, **k: streams.append(k["stream"]) or real(*a, **k))
    shown = run(*ONE, "--out", "out")
    assert set(streams) == {"select"}
    found = tuning(tmp_path / "out")
    assert found.strategy == "bisection"
    assert found.data.where == "sandbox:photo@select"
    assert found.note == NOTE
    assert found.evidence is None
    assert found.command.startswith("clip-unlearn tune --model sandbox")
    best = found.best
    assert best is not None
    assert best.within
    assert best.front
    assert f"chosen   strength={best.settings['strength']}" in shown
    assert f"{best.number} (chosen)" in shown
    assert "report what forget measures on the audit part" in shown
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pareto.svg", "recipe.yaml", "tune.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "recipe.yaml").read_text(encoding="utf-8").startswith(f"# {NOTE}")
    run("forget", "--recipe", "out/recipe.yaml", "--out", "forgotten", "--probe", "zero_shot")
    record = Record.load(tmp_path / "forgotten" / "record.json")
    assert record.origin.settings["strength"] == best.settings["strength"]
    assert record.data is not None
    assert record.data.where == "sandbox:photo@audit"
    run("forget", "--recipe", "out/recipe.yaml", "--split", "select", "--out", "again", "--probe", "zero_shot")
    again = Record.load(tmp_path / "again" / "record.json")
    for ours in (*found.before, best.forget, best.retain):
        assert ours is not None
        assert any(
            (ours.name, ours.subject, ours.value, ours.low) == (r.name, r.subject, r.value, r.low)
            for r in again.readings
        )


def test_several_settings_are_proposed_and_resumed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(*TWO, "--out", "whole", "--seed", "3")
    found = tuning(tmp_path / "whole")
    assert found.strategy == "tree-structured Parzen estimator"
    assert len(found.trials) == 4
    assert found.trials[0].settings == {"strength": 1.0, "convention": "R"}
    real, made = tune_trial.make_patch, []

    def failing(*arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(tune_trial, "make_patch", failing)
    assert "--resume goes on from it" in run(*TWO, "--out", "parts", "--seed", "3", code=130)
    assert not (tmp_path / "parts").exists()
    later: list[Any] = []
    monkeypatch.setattr(tune_trial, "make_patch", lambda *arguments: later.append(arguments) or real(*arguments))
    run(*TWO, "--out", "parts", "--seed", "3", "--resume")
    assert (len(made), len(later)) == (2, 2)
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    for name in ("recipe.yaml", "pareto.svg"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


def test_json_and_choices_from_a_recipe(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "model: sandbox\nforget: [mug]\nbackground: none\nbudget: 2\ndata: sandbox:photo\n"
        "method: {name: project, strength: auto, pool: each}\n"
    )
    shown = run("tune", "--recipe", "recipe.yaml", "--search", "strength=0.5,1", "--out", "out", "--json")
    found = Tuning.model_validate_json(shown)
    assert found == tuning(tmp_path / "out")
    assert found.strategy == "every combination"
    assert found.order.budget == 2
    recipe = Recipe.load(tmp_path / "out" / "recipe.yaml")
    assert found.best is not None
    assert recipe.method.settings == {"pool": "each", "strength": found.best.settings["strength"]}
    assert recipe.budget is None
    assert "is valid" in run("validate", "out/recipe.yaml")


def test_none_within_the_budget(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials are written; the end is an error."""
    strong = ["tune", *MUG, "--method", "project", "--set", "centre=none", "--search", "strength=0.98:1"]
    error = run(*strong, "--budget", "0", "--out", "out", code=2)
    (line,) = (line for line in error.splitlines() if line.strip())
    assert line.startswith("error: No trial is within the budget of 0 points of retained accuracy; trial ")
    assert "All trials are in out." in line
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pareto.svg", "tune.json"]
    assert len(tuning(tmp_path / "out").trials) == 2
    assert any(trial.front for trial in tuning(tmp_path / "out").trials)


def test_failed_trials_stand_with_their_reason(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Ccup.forget

    def forget(self: Ccup, model: Any, request: Any) -> Any:
        if self.convention == "C":
            raise DivergedError("The loss is no number.")
        return real(self, model, request)

    monkeypatch.setattr(Ccup, "forget", forget)
    choices = ["--search", "convention=R,C", "--search", "pool=name,concept"]
    shown = run("tune", *MUG, "--method", "ccup", *choices, "--out", "out")
    assert "failed   2 of them: The loss is no number." in shown
    assert [trial.failure for trial in tuning(tmp_path / "out").trials] == ["", "", "diverged", "diverged"]

    def never(self: Project, model: Any, request: Any) -> Any:
        raise DivergedError("The loss is no number.")

    monkeypatch.setattr(Project, "forget", never)
    assert "None of 2 trials gave a patch: The loss is no number." in run(*ONE, "--out", "none", code=2)


def test_the_output_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert "--force" in run(*ONE, "--out", "out", code=2)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    run(*ONE, "--out", "out", "--force", "--trials", "2")
    assert not (tmp_path / "out" / "mine.txt").exists()
    shutil.rmtree(tmp_path / "out")


SETTING = ["--method", "project", "--search", "strength=0.05:1"]
NO_DATA = ["tune", "--model", "sandbox", "--forget", "mug", *SETTING]
BAD: dict[str, tuple[list[str], str]] = {
    "no model": (["tune", "--forget", "mug", "--data", "sandbox", *SETTING], "--model sandbox"),
    "nothing to forget": (["tune", "--model", "sandbox", "--data", "sandbox", *SETTING], "--forget"),
    "nothing to search": (["tune", *MUG, "--method", "project"], "Nothing to search"),
    "unknown setting": (["tune", *MUG, "--method", "project", "--search", "strenght=0.1:1"], "Did you mean 'strength'"),
    "out of bounds": (["tune", *MUG, "--method", "project", "--search", "strength=0.1:7"], "strength = 7.0"),
    "a setting that a budget would choose": (
        ["tune", *MUG, "--method", "ccup", "--search", "pool=name,concept", "--set", "strength=auto"],
        "--search strength=LOW:HIGH",
    ),
    "no data": (NO_DATA, "--data sandbox"),
    "a part of the data": ([*NO_DATA, "--data", "sandbox@audit"], "Write --data sandbox in place of sandbox@audit"),
    "class not in the data": (["tune", *MUG, "--forget", "mugg", *SETTING], "Did you mean 'mug'"),
    "one trial": ([*ONE, "--trials", "1"], "trials"),
    "a budget below nothing": ([*ONE, "--budget", "-1"], "budget"),
    "no time": ([*ONE, "--timeout", "0"], "timeout"),
    "evidence of the audit part": ([*ONE, "--evidence", "sandbox:photo@audit"], "--evidence sandbox:photo@stop"),
    "evidence of the world's audit stream": ([*ONE, "--evidence", "sandbox"], "--evidence sandbox:photo@stop"),
    "evidence that is measured on": (
        [
            "tune",
            *MUG,
            "--method",
            "leace",
            "--search",
            "pictures=real,synthetic",
            "--evidence",
            "sandbox:photo@select",
        ],
        "share an image",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, run: Run, tmp_path: Path) -> None:
    arguments, hint = BAD[name]
    (line,) = (line for line in run(*arguments, code=2).splitlines() if line.strip())
    assert line.startswith("error: ")
    assert hint in line
    assert list(tmp_path.iterdir()) == []


def test_captions_alone_and_launchers_are_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "captions"
    folder.mkdir()
    images = world.open_world("sandbox:photo", stream="stop")
    rows = []
    for place in range(len(images)):
        if images.classes[images.labels[place]] == "mug":
            images.picture(place).save(folder / f"{place}.png")
            rows.append(json.dumps({"file_name": f"{place}.png", "text": "a photo of a mug"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    assert "no class labels" in run(*NO_DATA, "--data", str(folder), code=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one process" in run(*ONE, code=2)
