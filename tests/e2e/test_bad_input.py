"""Forty wrong inputs: each ends with exit code 2, one line that names the way out, and nothing written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from clip_unlearn.errors import ClipUnlearnError
from clip_unlearn.sandbox import bundle

Arrange = Callable[[Path], list[str]]


def file(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """Return a function that writes a file into a folder and returns its path."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def forget(*words: str) -> Arrange:
    """Return the arguments of `forget` on the embedded model."""
    return lambda _: ["forget", "--model", "sandbox", *words]


def recipe(content: str | bytes, command: str = "forget") -> Arrange:
    """Return the arguments of a command on a recipe with this content."""

    def arrange(folder: Path) -> list[str]:
        path = str(file("recipe.yaml", content)(folder))
        return ["validate", path] if command == "validate" else ["forget", "--recipe", path]

    return arrange


def data(make: Callable[[Path], Path]) -> Arrange:
    """Return the arguments of `forget` with the data that `make` writes."""
    return lambda folder: ["forget", "--model", "sandbox", "--forget", "mug", "--data", str(make(folder))]


def checkpoint(damage: Callable[[Path], None]) -> Arrange:
    """Return the arguments of `forget` with a damaged copy of the embedded checkpoint."""

    def arrange(folder: Path) -> list[str]:
        copy = folder / "checkpoint"
        shutil.copytree(str(bundle.folder("sandbox")), copy)
        damage(copy)
        return ["forget", "--model", str(copy), "--forget", "mug"]

    return arrange


def cut_weights(folder: Path) -> None:
    """Cut the weights file in half."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def break_number(folder: Path) -> None:
    """Put one NaN into the weights."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["visual_projection.weight"] = torch.full_like(tensors["visual_projection.weight"], torch.nan)
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def drop_weight(folder: Path) -> None:
    """Remove one tensor."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    del tensors["visual_projection.weight"]
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


def pickle_only(folder: Path) -> None:
    """Leave a pickle in place of the weights."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_family(folder: Path) -> None:
    """Say that the checkpoint is of a family nobody supports."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "llama"}))


def full_output(folder: Path) -> list[str]:
    """Put a file where the output goes."""
    file("out/precious.txt", "mine")(folder)
    return ["forget", "--model", "sandbox", "--forget", "mug"]


def file_output(folder: Path) -> list[str]:
    """Put a file in place of the output folder."""
    file("out", "mine")(folder)
    return ["forget", "--model", "sandbox", "--forget", "mug"]


GOOD = "model: sandbox\nforget: [mug]\n"

CASES: dict[str, tuple[Arrange, str]] = {
    "no model": (lambda _: ["forget", "--forget", "mug"], "--model"),
    "nothing to forget": (forget(), "--forget"),
    "empty name": (forget("--forget", " "), "empty"),
    "duplicate name": (forget("--forget", "mug", "--forget", "Mug"), "twice"),
    "duplicate synonym": (forget("--forget", "mug | cup | cup"), "twice"),
    "overlapping names": (forget("--forget", "mug", "--retain", "mug"), "Remove it"),
    "duplicate retained name": (forget("--forget", "mug", "--retain", "cat", "--retain", "cat"), "twice"),
    "control character": (forget("--forget", "mu\x07g"), "control"),
    "endless name": (forget("--forget", "m" * 300), "characters"),
    "class not in the data": (forget("--forget", "mugg", "--data", "sandbox"), "Did you mean 'mug'"),
    "unknown method": (forget("--forget", "mug", "--method", "projekt"), "Did you mean 'project'"),
    "unknown model": (lambda _: ["forget", "--model", "sandbocks", "--forget", "mug"], "Did you mean 'sandbox"),
    "unknown data": (forget("--forget", "mug", "--data", "sandbocks"), "Did you mean 'sandbox'"),
    "unknown domain": (forget("--forget", "mug", "--data", "sandbox:foto"), "photo"),
    "unknown probe": (forget("--forget", "mug", "--probe", "zeroshot"), "Did you mean 'zero_shot'"),
    "unknown split": (forget("--forget", "mug", "--data", "sandbox", "--split", "tset"), "split"),
    "unknown template set": (forget("--forget", "mug", "--templates", "fotos"), "Did you mean 'photo'"),
    "template with two gaps": (forget("--forget", "mug", "--templates", "a {} and a {}"), "exactly once"),
    "unknown setting": (forget("--forget", "mug", "--set", "strenght=1"), "Did you mean 'strength'"),
    "settings of a table and a value for it": (
        forget("--forget", "mug", "--method", "cliperase", "--set", "descent=1", "--set", "descent.steps=2"),
        "in two ways",
    ),
    "unknown setting of a table": (
        forget("--forget", "mug", "--method", "cliperase", "--set", "descent.step=2", "--data", "sandbox"),
        "Did you mean 'steps'",
    ),
    "images to learn from that are measured on": (
        forget("--forget", "mug", "--method", "leace", "--evidence", "sandbox", "--data", "sandbox@audit"),
        "share an image",
    ),
    "setting without a value": (forget("--forget", "mug", "--set", "strength"), "key=value"),
    "setting with a broken value": (forget("--forget", "mug", "--set", "strength=["), "readable"),
    "unknown device": (forget("--forget", "mug", "--device", "gpux"), "gpux"),
    "split without data": (forget("--forget", "mug", "--split", "audit"), "data"),
    "recipe without data, split by flag": (
        lambda folder: [*recipe(GOOD)(folder), "--split", "audit"],
        "data",
    ),
    "setting too small": (forget("--forget", "mug", "--set", "strength=0"), "strength"),
    "setting too large": (forget("--forget", "mug", "--set", "strength=9"), "strength"),
    "setting not a number": (forget("--forget", "mug", "--set", "strength=much"), "strength"),
    "negative seed": (forget("--forget", "mug", "--seed", "-1"), "seed"),
    "missing model folder": (lambda _: ["forget", "--model", "./nowhere", "--forget", "mug"], "does not exist"),
    "missing data": (forget("--forget", "mug", "--data", "./nowhere.parquet"), "does not exist"),
    "missing recipe": (lambda _: ["forget", "--recipe", "nowhere.yaml"], "does not exist"),
    "missing names file": (forget("--forget", "nowhere.txt"), "nowhere.txt"),
    "folder without images": (data(lambda folder: file("pictures/mug/note.txt", "x")(folder).parent.parent), "image"),
    "broken Parquet": (data(file("broken.parquet", b"PAR1 nonsense PAR1")), "broken.parquet"),
    "table without paths": (data(file("table.csv", "name,label\na,mug\n")), "filepath"),
    "table leading outside": (data(file("table.csv", "filepath,label\n../../etc/x.jpg,mug\n")), "leads out"),
    "truncated weights": (checkpoint(cut_weights), "Fetch"),
    "weights with NaN": (checkpoint(break_number), "NaN"),
    "weight missing": (checkpoint(drop_weight), "visual_projection"),
    "pickled weights": (checkpoint(pickle_only), "safetensors"),
    "foreign family": (checkpoint(other_family), "llama"),
    "recipe with an anchor": (recipe("model: &m sandbox\nforget: [*m]\n"), "anchor"),
    "recipe with an unknown key": (recipe(f"{GOOD}methd: project\n"), "Did you mean 'method'"),
    "recipe that is a list": (recipe("- model\n- forget\n"), "table"),
    "recipe that is not YAML": (recipe("model: [sandbox\n"), "YAML"),
    "recipe in another encoding": (recipe("model: sandböx".encode("latin-1")), "UTF-8"),
    "recipe with a bad setting": (recipe(f"{GOOD}method: {{name: project, strength: 7}}\n", "validate"), "strength"),
    "recipe without a model": (recipe("forget: [mug]\n", "validate"), "model"),
    "recipe of another schema": (recipe(f"schema: 9\n{GOOD}", "validate"), "schema"),
    "output folder with content": (full_output, "--force"),
    "output is a file": (file_output, "is a file"),
    "patch that is none": (lambda folder: ["apply", "--patch", str(folder), "--model", "sandbox"], "patch.json"),
    "list of nothing": (lambda _: ["ls", "method"], "Did you mean 'methods'"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arrange, hint = CASES[name]
    monkeypatch.chdir(tmp_path)
    arguments = arrange(tmp_path)
    before = _tree(tmp_path)
    out = ["--out", "out"] if arguments[0] in ("forget", "apply") else []
    code = _run([*arguments, *out], monkeypatch)
    error = capsys.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.strip()]
    assert len(lines) == 1, error
    assert lines[0].startswith("error: ")
    assert hint in lines[0]
    assert "Traceback" not in error
    assert lines[0].rstrip().endswith((".", "?", ")", "}")), lines[0]
    assert _tree(tmp_path) == before


def test_there_are_forty_of_them() -> None:
    assert len(CASES) >= 40


def test_every_error_of_ours_has_an_exit_code() -> None:
    kinds = [ClipUnlearnError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert {kind.exit_code for kind in kinds} == {1, 2, 4}


def _run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    from clip_unlearn.cli.app import main

    monkeypatch.setattr("sys.argv", ["clip-unlearn", *arguments])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def _tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
