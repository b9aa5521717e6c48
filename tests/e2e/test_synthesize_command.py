"""`synthesize` as a user runs it: pictures to open as data, killed and gone on with, wrong input refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rich.console  # noqa: F401  It keeps the environment of its first import, which must not be a test's.
from in_process import main
from PIL import Image

from clip_unlearn.core.request import Concept
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import OutputError, UnsupportedError
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.evaluate import zero_shot
from clip_unlearn.runs.manifest import Manifest, Order
from clip_unlearn.runs.synthesize import synthesize
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis import studio
from clip_unlearn.synthesis.ascend import Synthetic

CLASSES = [word for name in CLASS_NAMES for word in ("--retain", name)]
BASE = ["synthesize", "--model", "sandbox", *CLASSES]
FAST = ["--probability", "0.5", "--steps", "40", "--count", "3"]

PHOTO = ("a photo of a {}.",)

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


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_folder_is_data_with_labels(run: Run, tmp_path: Path) -> None:
    shown = run(*BASE, "--name", "mug", "--name", "rabbit", *FAST, "--out", "out")
    assert "mug" in shown
    assert "probability above 0.500 among 28 names" in shown
    manifest = Manifest.model_validate_json((tmp_path / "out" / "manifest.json").read_text())
    images = open_data("out")
    assert images.classes == ("mug", "rabbit")
    accepted = [picture for picture in manifest.pictures if picture.accepted]
    assert sorted(images.keys) == sorted(str(picture.file) for picture in accepted)
    assert [images.classes[label] for label in images.labels] == [picture.name for picture in accepted]
    assert images.picture(0).size == (48, 48)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("contact.png", "manifest.json", "metadata.jsonl", "mug", "rabbit")
    ]


def test_the_model_recognises_what_is_on_the_disk(run: Run) -> None:
    """Also as files of 8 bits that are prepared like any other picture."""
    run(*BASE, "--name", "mug", "--name", "rabbit", "--name", "car", *FAST, "--out", "out")
    (accuracy,) = (one for one in zero_shot(open_model("sandbox"), "out", templates=PHOTO) if one.name == "accuracy")
    assert accuracy.value == 1


def test_the_manifest_says_what_was_made(run: Run, tmp_path: Path) -> None:
    manifest = Manifest.model_validate_json(
        run(*BASE, "--name", "mug", *FAST, "--seed", "5", "--templates", "a {}.", "--out", "out", "--json")
    )
    assert manifest.model.digest == open_model("sandbox").fingerprint
    assert manifest.order.names == (Concept(name="mug"),)
    assert manifest.order.seed == 5
    assert manifest.sentences == ("a {}.",)
    assert manifest.settings.steps == 40
    assert manifest.settings.probability == manifest.threshold.value == 0.5
    assert manifest.threshold.rule == "given"
    (made,) = manifest.made
    assert made.pictures == len(manifest.pictures) == 3
    assert made.accepted == sum(picture.accepted for picture in manifest.pictures)
    assert made.diversity is not None
    assert 0 < made.diversity < 1
    for picture in manifest.pictures:
        assert picture.accepted == (picture.file is not None) == (picture.probability > 0.5)
        assert 0 < picture.steps <= 40
    with Image.open(tmp_path / "out" / "contact.png") as sheet:
        assert sheet.height > 96


def test_the_threshold_by_rule(run: Run, tmp_path: Path) -> None:
    shown = run(*BASE, "--name", "mug", "--count", "2", "--out", "out")
    manifest = Manifest.model_validate_json((tmp_path / "out" / "manifest.json").read_text())
    threshold = manifest.threshold
    assert 0.9 < threshold.value <= 0.99
    assert threshold.rule == "easiest retained name"
    assert len(threshold.names) == 4
    assert "mug" not in threshold.names
    assert all(picture.probability > threshold.value for picture in manifest.pictures if picture.accepted)
    assert f"the rule took it from 8 pictures each of {', '.join(threshold.names)}" in shown


def test_without_names_to_retain_nouns_take_their_place(run: Run) -> None:
    words = ["--name", "mug", "--count", "1", "--probability", "0.2", "--out", "out", "--json"]
    manifest = Manifest.model_validate_json(run("synthesize", "--model", "sandbox", *words))
    assert 1100 < manifest.classes < 1250


def test_names_are_told_apart_from_a_list_that_holds_them(run: Run, tmp_path: Path) -> None:
    """One list of classes does for all names, and a file for several names."""
    (tmp_path / "classes.txt").write_text("\n".join(CLASS_NAMES))
    (tmp_path / "wanted.txt").write_text("mug\ncar\n")
    words = ["--name", "wanted.txt", "--retain", "classes.txt", *FAST, "--out", "out", "--json"]
    manifest = Manifest.model_validate_json(run("synthesize", "--model", "sandbox", *words))
    assert [made.name for made in manifest.made] == ["mug", "car"]
    assert manifest.classes == 28


def test_again_gives_the_same_bytes_and_force_replaces(run: Run, tmp_path: Path) -> None:
    order = [*BASE, "--name", "mug", *FAST]
    run(*order, "--out", "first")
    first = tree(tmp_path / "first")
    run(*order, "--out", "second")
    assert tree(tmp_path / "second") == first
    run(*order, "--seed", "1", "--out", "second", "--force")
    changed = tree(tmp_path / "second")
    assert changed["mug/0000.png"] != first["mug/0000.png"]


def test_killed_and_gone_on_with(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL between two batches; what is resumed has the bytes of a run that nothing stopped."""
    names = [word for name in CLASS_NAMES[:8] for word in ("--name", name)]
    order = [*BASE, *names, "--count", "5", "--probability", "0.5"]
    run(*order, "--out", "whole")
    journal = tmp_path / "killed.journal"
    command = [sys.executable, "-m", "clip_unlearn", *order, "--out", "killed"]
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and len(steps(journal)) < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    kept = len(steps(journal))
    assert 2 <= kept < 8
    made: list[int] = []
    real = studio.ascend

    def counted(*arguments: Any, **rest: Any) -> Synthetic:
        made.append(1)
        return real(*arguments, **rest)

    monkeypatch.setattr(studio, "ascend", counted)
    run(*order, "--out", "killed", "--resume")
    assert len(made) == 8 - kept
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"killed", "whole"}


def steps(journal: Path) -> list[Path]:
    """Return the whole steps in a journal."""
    return [path for path in journal.glob("*.safetensors") if not path.name.startswith(".")]


def test_without_resume_a_journal_is_wiped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.journal").mkdir()
    (tmp_path / "out.journal" / "old.safetensors").write_bytes(b"old")
    run(*BASE, "--name", "mug", *FAST, "--out", "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """Not even a journal: going on would end the same way."""
    order = Order.model_validate({"model": "sandbox", "names": ["mug"], "retain": ["cat"], "steps": 1, "count": 4})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        synthesize(order, tmp_path / "full")
    hard = order.model_copy(update={"probability": 0.9999})
    with pytest.raises(UnsupportedError, match="0 of 4 synthetic pictures of 'mug'"):
        synthesize(hard, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


MUG = ["--name", "mug"]
BAD: dict[str, tuple[list[str], str]] = {
    "no model": (["synthesize", *MUG], "--model"),
    "no name": (BASE, "--name mug"),
    "empty name": ([*BASE, "--name", " "], "empty"),
    "name twice": ([*BASE, *MUG, "--name", "Mug"], "twice"),
    "synonym twice": ([*BASE, "--name", "mug | cup | cup"], "twice"),
    "retained name twice": ([*BASE, *MUG, "--retain", "cat"], "twice"),
    "control character": ([*BASE, "--name", "mu\x07g"], "control"),
    "missing names file": ([*BASE, "--name", "nowhere.txt"], "nowhere.txt"),
    "missing retain file": ([*BASE, *MUG, "--retain", "nowhere.txt"], "nowhere.txt"),
    "unknown model": (["synthesize", "--model", "sandbocks", *MUG], "Did you mean 'sandbox"),
    "missing model folder": (["synthesize", "--model", "./nowhere", *MUG], "does not exist"),
    "no pictures": ([*BASE, *MUG, "--count", "0"], "count"),
    "negative count": ([*BASE, *MUG, "--count", "-3"], "count"),
    "no steps": ([*BASE, *MUG, "--steps", "0"], "steps"),
    "endless steps": ([*BASE, *MUG, "--steps", "1000000"], "steps"),
    "certainty": ([*BASE, *MUG, "--probability", "1"], "probability"),
    "negative probability": ([*BASE, *MUG, "--probability", "-0.1"], "probability"),
    "probability that is no number": ([*BASE, *MUG, "--probability", "nan"], "probability"),
    "negative seed": ([*BASE, *MUG, "--seed", "-1"], "seed"),
    "unknown template set": ([*BASE, *MUG, "--templates", "fotos"], "Did you mean 'photo'"),
    "template with two gaps": ([*BASE, *MUG, "--templates", "a {} and a {}"], "exactly once"),
    "unknown device": ([*BASE, *MUG, "--device", "gpux"], "gpux"),
    "out of reach": ([*BASE, *MUG, "--steps", "1", "--probability", "0.99"], "lower probability"),
    "rule out of reach": (
        ["synthesize", *BASE[1:3], *MUG, "--retain", "qq", "--retain", "qqq", "--steps", "1"],
        "None of 16",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, hint = BAD[name]
    monkeypatch.chdir(tmp_path)
    code = main(monkeypatch, *arguments, "--out", "out")
    error = capsys.readouterr().err
    assert code == 2, error
    (line,) = (line for line in error.splitlines() if line.strip())
    assert line.startswith("error: ")
    assert hint in line
    assert line.rstrip().endswith((".", "?", ")", "}"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_an_output_that_is_there(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "out" / "mine" if kind == "folder" else tmp_path / "out"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    assert main(monkeypatch, *BASE, *MUG, "--out", "out") == 2
    assert ("--force" if kind == "folder" else "is a file") in capsys.readouterr().err
    assert tree(tmp_path) == {("out/mine" if kind == "folder" else "out"): b"mine"}


def test_the_manifest_is_read_back(tmp_path: Path) -> None:
    order: dict[str, Any] = {"model": "sandbox", "names": ["mug | cup"], "retain": ["cat"], "count": 1, "steps": 3}
    manifest = synthesize(Order.model_validate({**order, "probability": 0}), tmp_path / "out")
    assert Manifest.model_validate(json.loads((tmp_path / "out" / "manifest.json").read_text())) == manifest
