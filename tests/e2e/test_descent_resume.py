"""`forget --method cliperase` killed at random moments of its training; `--resume` gives the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RUNNER = """
from clip_unlearn.core import descent

descent.SECONDS = 0.0  # a state at every look, not every ten seconds

from clip_unlearn.cli.app import main

main()
"""

ORDER = ["forget", "--model", "sandbox", "--forget", "mug", "--evidence", "sandbox:photo@stop", "--method", "cliperase"]
SETTINGS = ("steps=48", "check_every=2", "patience=48", "rate=0.003", "forget_batch=6", "retain_batch=8")
ORDER += [word for setting in SETTINGS for word in ("--set", f"descent.{setting}")]

KILLS = 20
LOOKS = 24
"""States that a whole run writes."""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a starter of processes of their own, all in the same environment."""

    def start(*flags: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", RUNNER, *ORDER, *flags]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    return start


def states(journal: Path) -> set[str]:
    """Return the names of the whole states in a journal."""
    return {path.name for path in journal.glob("*.safetensors") if not path.name.startswith(".")}


def killed(process: subprocess.Popen[bytes], journal: Path, delay: float) -> set[str]:
    """Kill a process some time after it has written a state that was not there before; return the states it left."""
    before = states(journal)
    with process:
        deadline = time.monotonic() + 240
        while process.poll() is None and states(journal) <= before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return states(journal)


def ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the good end of a process."""
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def contents(patch: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in patch.iterdir()}


@pytest.mark.slow
def test_killed_again_and_again_and_gone_on_with(start: Start, tmp_path: Path) -> None:
    """Within a step, at a look, while a state is written: whenever it happens to be."""
    journal, dice = tmp_path / "out.journal", random.Random()
    began = time.monotonic()
    ended(start("--out", "whole"))
    look = (time.monotonic() - began) / (4 * LOOKS)
    seen: list[set[str]] = [set()]
    for _ in range(KILLS):
        flags = ["--resume"] if len(seen) > 1 else []
        found = killed(start("--out", "out", *flags), journal, dice.uniform(0, look))
        assert found - seen[-1], "every run gets further"
        assert 1 <= len(found) <= 2, "the newest state, and the one before while it takes its place"
        seen.append(found)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {"whole", "out.journal"}
    ended(start("--out", "out", "--resume"))
    assert not journal.exists()
    whole, resumed = (contents(tmp_path / name / "patch") for name in ("whole", "out"))
    assert len(whole["patch.safetensors"]) > 10_000
    assert resumed == whole
