"""`plan`, and settings that a budget chooses, as a user runs them: on the embedded world, with nothing left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rich.console  # noqa: F401  It keeps the environment of its first import, which must not be a test's.
from in_process import main

from clip_unlearn.core.record import Reading, Record
from clip_unlearn.runs.predict import PREDICTED
from clip_unlearn.runs.preview import Preview
from clip_unlearn.sandbox.classes import CLASS_NAMES

RETAIN = [word for name in CLASS_NAMES if name != "mug" for word in ("--retain", name)]
NAMES = [*RETAIN, "--background", "none"]
MUG = ["--model", "sandbox", "--forget", "mug", "--method", "project"]
AUTO = [*MUG, "--set", "strength=auto"]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty folder and return what it wrote to stdout."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        code = main(monkeypatch, *arguments)
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return shown.out

    return call


def predicted(record: Record) -> Reading:
    """Return the one prediction of a record."""
    (reading,) = (one for one in record.readings if one.name == PREDICTED)
    return reading


def test_plan_lists_what_moves_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    shown = run("plan", *MUG, "--data", "sandbox:photo", "--top", "3")
    assert "forget    mug" in shown
    assert "retain    27 names, background" in shown
    assert "strength=1.0" in shown
    assert "3 of 27 classes, those that move most; nothing was written" in shown
    assert "rank correlation of predicted and measured: 0." in shown
    assert "(Spearman, n=27 classes, p=" in shown
    assert list(tmp_path.iterdir()) == []


def test_json_has_everything(run: Run) -> None:
    found = Preview.model_validate_json(run("plan", *MUG, "--data", "sandbox:photo", "--top", "3", "--json"))
    assert len(found.moves) == 27
    assert all(move.measured is not None for move in found.moves)
    assert found.agreement is not None
    assert found.agreement.count == 27


def test_from_names_alone(run: Run) -> None:
    shown = run("plan", *MUG, "--set", "strength=0.3", *NAMES)
    assert "20 of 27 classes" in shown
    assert "with --data it is measured" in shown
    assert "accuracy" not in shown
    assert "correlation" not in shown


@pytest.mark.parametrize("method", ["redirect", "ccup"])
def test_other_methods(run: Run, method: str) -> None:
    shown = run("plan", "--model", "sandbox", "--forget", "mug", "--method", method, *NAMES, "--json")
    assert json.loads(shown)["method"] == method


def test_plan_and_forget_choose_alike(run: Run, tmp_path: Path) -> None:
    """By flags and by recipe too: the same number, which stands in the record with what it is predicted to cost."""
    found = Preview.model_validate_json(run("plan", *AUTO, "--budget", "0.5", *NAMES, "--json"))
    shown = run("forget", *AUTO, "--budget", "0.5", *NAMES, "--out", "first")
    record = Record.load(tmp_path / "first" / "record.json")
    assert record.origin.settings == found.settings
    assert 0.01 < found.settings["strength"] < 1
    assert f"chosen   strength={found.settings['strength']}" in shown
    assert predicted(record) == found.readings[0]
    assert -0.5 <= 100 * predicted(record).value < 0
    assert predicted(record).subject == "change"
    assert predicted(record).count == 3996
    run("forget", "--recipe", "first/recipe.yaml", "--out", "second")
    patches = [(tmp_path / name / "patch" / "patch.safetensors").read_bytes() for name in ("first", "second")]
    assert patches[0] == patches[1]


def test_with_data_one_part_chooses_and_another_measures(run: Run) -> None:
    record = Record.model_validate_json(
        run("forget", *AUTO, "--budget", "0.3", "--data", "sandbox:photo", "--out", "out", "--json")
    )
    assert record.data is not None
    assert record.data.where == "sandbox:photo@audit"
    assert predicted(record).interval == "Bonett-Price, paired, on sandbox:photo@select"
    assert 100 * predicted(record).value >= -0.3


def test_a_recipe_with_an_open_setting_is_valid(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(f"{GOOD}method: {{name: project, strength: auto}}\nbudget: 2\n")
    assert "is valid" in run("validate", "recipe.yaml")


GOOD = "model: sandbox\nforget: [mug]\n"
BAD: dict[str, tuple[list[str], str]] = {
    "no model": (["plan", "--forget", "mug"], "--model"),
    "nothing to forget": (["plan", "--model", "sandbox"], "--forget"),
    "class not in the data": (["plan", *MUG[:2], "--forget", "mugg", "--data", "sandbox"], "Did you mean 'mug'"),
    "unknown method": (["plan", *MUG[:4], "--method", "projekt"], "Did you mean 'project'"),
    "nothing to list": (["plan", *MUG, "--background", "none"], "--background nouns"),
    "a table of nothing": (["plan", *MUG, *NAMES, "--top", "0"], "--top 0"),
    "unknown setting to choose": (["plan", *MUG, "--set", "strenght=auto"], "Did you mean 'strength'"),
    "setting that is no number": (["plan", *MUG, "--set", "pool=auto"], "It can choose strength=auto."),
    "two settings to choose": (["plan", *AUTO, "--set", "pool=auto"], "one setting, not strength and pool"),
    "budget without a setting to choose": (["plan", *MUG, "--budget", "1"], "--set strength=auto"),
    "budget of nothing": (["plan", *AUTO, "--budget", "0"], "budget"),
    "negative budget": (["plan", *AUTO, "--budget", "-1"], "budget"),
    "budget of more than everything": (["plan", *AUTO, "--budget", "101"], "budget"),
    "budget that is no number": (["plan", *AUTO, "--budget", "nan"], "budget"),
    "budget without names": (["plan", *AUTO, "--background", "none"], "--retain NAMES"),
    "budget that is too small": (["plan", *AUTO, "--budget", "0.001"], "Even strength=0.01, the gentlest"),
    "choosing where it measures": (["plan", *AUTO, "--data", "sandbox", "--split", "select"], "--split audit"),
    "part of the data in its name": (["plan", *AUTO, "--data", "sandbox@audit"], "--data sandbox --split audit"),
    "forget: budget without a setting": (["forget", *MUG, "--budget", "1"], "--set strength=auto"),
    "forget: budget that is too small": (["forget", *AUTO, "--budget", "0.001"], "more than the budget of 0.001"),
    "recipe: budget without a setting": (["validate", "budget.yaml"], "--set strength=auto"),
    "recipe: budget of nothing": (["validate", "zero.yaml"], "budget"),
    "recipe: setting that no budget can choose": (["validate", "pool.yaml"], "It can choose strength=auto."),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, hint = BAD[name]
    monkeypatch.chdir(tmp_path)
    recipes: dict[str, Any] = {
        "budget": "method: project\nbudget: 1\n",
        "zero": "method: {name: project, strength: auto}\nbudget: 0\n",
        "pool": "method: {name: project, pool: auto}\n",
    }
    for stem, text in recipes.items():
        (tmp_path / f"{stem}.yaml").write_text(GOOD + text)
    code = main(monkeypatch, *arguments)
    error = capsys.readouterr().err
    assert code == 2, error
    (line,) = (line for line in error.splitlines() if line.strip())
    assert line.startswith("error: ")
    assert hint in line
    assert line.rstrip().endswith((".", "?", ")", "}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["budget.yaml", "pool.yaml", "zero.yaml"]
