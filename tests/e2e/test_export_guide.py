"""What docs/guide/export.md shows works as shown, in its order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "export.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_and_snippet(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    np.save(tmp_path / "images.npy", np.eye(64, dtype=np.float32))
    blocks = re.findall(r"```(bash|python)\n(.*?)```", GUIDE, re.DOTALL)
    assert [language for language, _ in blocks].count("python") >= 4
    for language, text in blocks:
        programs = [[sys.executable, "-c", text]]
        if language == "bash":
            programs = [[sys.executable, "-m", "clip_unlearn", *shlex.split(line)[1:]] for line in text.splitlines()]
        for program in programs:
            done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, (program, done.stderr)
    assert np.load(tmp_path / "images-without-mug.npy").shape == (64, 64)
