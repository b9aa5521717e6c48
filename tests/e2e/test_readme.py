"""What the README shows works as shown."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("snippet", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_snippets_run(snippet: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "forget accuracy before" in done.stdout
    assert (tmp_path / "out" / "no-mug" / "patch.safetensors").is_file()


def test_commands_exist_with_their_options() -> None:
    shown = [line.split("#")[0] for line in README.splitlines() if line.startswith("clip-unlearn ")]
    assert len(shown) >= 4
    for line in shown:
        name, *arguments = shlex.split(line)[1:]
        helped = subprocess.run(
            [sys.executable, "-m", "clip_unlearn", name, *arguments[: name == "ledger"], "--help"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert helped.returncode == 0, line
        for argument in arguments:
            assert not argument.startswith("--") or argument in helped.stdout, line
