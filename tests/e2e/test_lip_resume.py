"""`forget --method lip` killed while it makes pictures and while it forgets; `--resume` gives the same bytes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SETTINGS = ("pictures=6", "stop_pictures=3", "held_pictures=16", "noise_draws=1", "rounds=4", "settle=4")
PICTURES = 3
"""Steps of the journal that hold pictures: two batches of 8 names, one of the class."""

ORDER = ["forget", "--model", "sandbox", "--forget", "mug", "--data", "sandbox:photo@stop", "--method", "lip"]
ORDER += [word for setting in SETTINGS for word in ("--set", setting)]

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a starter of processes of their own, all in the same environment."""

    def start(*flags: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "clip_unlearn", *ORDER, *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    return start


def steps(journal: Path) -> dict[str, int]:
    """Return the whole steps in a journal and when each was written."""
    found = {}
    for path in journal.glob("*.safetensors"):
        if not path.name.startswith("."):
            found[path.name] = path.stat().st_mtime_ns
    return found


def killed_after(process: subprocess.Popen[bytes], journal: Path, count: int) -> dict[str, int]:
    """Kill a process once its journal has so many steps, and return the steps it left."""
    with process:
        deadline = time.monotonic() + 600
        while process.poll() is None and len(steps(journal)) < count and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return steps(journal)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the good end of a process."""
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()


def contents(patch: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in patch.iterdir()}


@pytest.mark.slow
def test_killed_twice_and_gone_on_with(start: Start, tmp_path: Path) -> None:
    """Once between two batches of pictures and once between two rounds."""
    ended(start("--out", "whole"))
    journal = tmp_path / "out.journal"
    first = killed_after(start("--out", "out"), journal, 1)
    assert 1 <= len(first) < PICTURES
    second = killed_after(start("--out", "out", "--resume"), journal, PICTURES + 1)
    assert PICTURES < len(second) < PICTURES + 4
    assert first.items() <= second.items()  # read, not made again
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"whole", "out.journal"}
    ended(start("--out", "out", "--resume"))
    assert not journal.exists()
    whole, resumed = (contents(tmp_path / name / "patch") for name in ("whole", "out"))
    assert any(name.endswith(".safetensors") for name in whole)
    assert resumed == whole
