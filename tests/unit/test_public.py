"""The public surface: pinned names, lazy loading, the calls of the README."""

import subprocess
import sys
from pathlib import Path

import clip_unlearn

PUBLIC = [
    "ClipUnlearnError",
    "Concept",
    "Evidence",
    "ImageSet",
    "InputError",
    "Method",
    "Model",
    "Patch",
    "Probe",
    "Reading",
    "Recipe",
    "Record",
    "Request",
    "bake",
    "evaluate",
    "find_method",
    "find_probe",
    "open_data",
    "open_model",
    "run",
    "unlearn",
]


def test_public_names_are_pinned() -> None:
    assert clip_unlearn.__all__ == PUBLIC
    assert all(getattr(clip_unlearn, name) is not None for name in PUBLIC)


def test_import_and_help_load_no_torch() -> None:
    program = (
        "import sys, clip_unlearn; from clip_unlearn.cli.app import app; import clip_unlearn.report.summary;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'open_clip', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_python_and_command_line_are_the_same_thing(tmp_path: Path) -> None:
    model = clip_unlearn.open_model("sandbox")
    patch = clip_unlearn.unlearn(model, "mug", retain=["bowl", "teapot", "cat"])
    patch.save_pretrained(tmp_path / "patch")
    edited = clip_unlearn.Patch.from_pretrained(tmp_path / "patch").apply(model)
    readings = clip_unlearn.evaluate(model, "sandbox:photo", patch=patch)
    after = next(one for one in readings if one.name == "forget accuracy" and one.subject == "after")
    assert edited.fingerprint != model.fingerprint
    assert after.value < 0.5
    assert next(one for one in clip_unlearn.evaluate(edited, "sandbox:photo") if one.name == "accuracy").value > 0.5
