"""The command line on the embedded world, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import clip_unlearn
from clip_unlearn.core.record import Reading, Record

FAMILIES = ("sandbox", "sandbox-conv", "sandbox-openclip")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "clip_unlearn", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def value(record: Record, name: str, subject: str = "after") -> Reading:
    """Return the one total reading of that name."""
    return next(one for one in record.readings if one.name == name and one.subject == subject and not one.of)


@pytest.mark.parametrize("family", [FAMILIES[0], *(pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES[1:])])
def test_forget_a_class_and_keep_the_rest(family: str, tmp_path: Path) -> None:
    out = tmp_path / "mug"
    done = command(
        "forget", "--model", family, "--forget", "mug", "--method", "project", "--data", "sandbox", "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    record = Record.load(out / "record.json")
    assert value(record, "forget accuracy", "before").value >= 0.9
    assert value(record, "forget accuracy").value <= 0.10
    assert value(record, "retain accuracy", "change").value >= -0.05
    assert record.portable
    assert record.origin.base.digest != record.after.digest
    assert (out / "summary.html").is_file()
    assert (out / "summary.md").is_file()
    assert len(record.samples) == 12
    assert all((out / "samples" / sample.picture).is_file() for sample in record.samples)


def test_forget_from_names_alone(tmp_path: Path) -> None:
    done = command("forget", "--model", "sandbox", "--forget", "mug", "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    record = Record.model_validate_json(done.stdout)
    assert record.origin.method == "redirect"
    assert len(record.origin.request.background) > 1000
    assert "mug" not in record.origin.request.background
    assert {skipped.probe for skipped in record.skipped} == {"zero_shot", "name_sweep", "over_forgetting"}
    assert value(record, "text drift").value > 0.99


def test_recipe_and_flags_give_the_same_patch(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    flags = command("forget", "--model", "sandbox", "--forget", "mug", "--set", "strength=0.9", "--out", str(first))
    recipe = command("forget", "--recipe", str(first / "recipe.yaml"), "--out", str(second))
    assert flags.returncode == recipe.returncode == 0, recipe.stderr
    patches = [(folder / "patch" / "patch.safetensors").read_bytes() for folder in (first, second)]
    assert patches[0] == patches[1]


def test_apply_bakes_a_checkpoint_that_measures_the_same(tmp_path: Path) -> None:
    out, baked = tmp_path / "out", tmp_path / "baked"
    assert (
        command(
            "forget", "--model", "sandbox", "--forget", "mug", "--data", "sandbox:photo", "--out", str(out)
        ).returncode
        == 0
    )
    assert command("apply", "--patch", str(out / "patch"), "--out", str(baked)).returncode == 0
    measured = command("evaluate", "--model", str(baked), "--data", "sandbox:photo", "--json")
    readings = [Reading.model_validate(one) for one in json.loads(measured.stdout)]
    mug = next(one for one in readings if one.name == "class accuracy" and one.of == "mug")
    assert mug.value == value(Record.load(out / "record.json"), "forget accuracy").value


def test_evaluate_a_patch_gives_before_and_after(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command("forget", "--model", "sandbox", "--forget", "mug", "--out", str(out)).returncode == 0
    done = command("evaluate", "--model", "sandbox", "--data", "sandbox:photo", "--patch", str(out / "patch"))
    assert done.returncode == 0, done.stderr
    assert "before" in done.stdout
    assert "forget accuracy" in done.stdout


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(
        "forget", "--model", "sandbox", "--forget", "mug", "--data", "sandbox", "--out", str(out), "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["request"]["forget"] == [{"name": "mug", "synonyms": [], "found": []}]
    assert not out.exists()


@pytest.mark.parametrize("what", ["methods", "models", "probes", "datasets"])
def test_ls(what: str) -> None:
    done = command("ls", what, "--json")
    assert done.returncode == 0, done.stderr
    assert all(row["name"] and row["about"] for row in json.loads(done.stdout))


def test_ls_shows_the_settings_of_a_method() -> None:
    done = command("ls", "methods", "project")
    assert done.returncode == 0, done.stderr
    assert "strength" in done.stdout


def test_doctor_version_and_demo(tmp_path: Path) -> None:
    assert json.loads(command("doctor", "--json").stdout)["package"]["clip-unlearn"] == clip_unlearn.__version__
    assert command("--version").stdout.strip() == clip_unlearn.__version__
    done = command("demo", "--out", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    assert "forget accuracy" in done.stdout
    assert "summary.html" in done.stdout


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    program = (
        "import os, sys; from clip_unlearn.report import summary; import clip_unlearn.runs.run as run;"
        "run.summarise = lambda record, folder: os._exit(9);"
        "from clip_unlearn.cli.app import main; main()"
    )
    arguments = ["forget", "--model", "sandbox", "--forget", "mug", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False, timeout=120)
    assert done.returncode == 9
    assert not out.exists()


def test_examples_are_valid() -> None:
    recipes = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.yaml"))
    assert recipes
    for recipe in recipes:
        done = command("validate", str(recipe))
        assert done.returncode == 0, done.stderr
