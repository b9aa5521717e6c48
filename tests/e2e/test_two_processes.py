"""Training shared by two processes of one launch ends where one process ends."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

from clip_unlearn.data.open import open_data
from clip_unlearn.files import tensors

SCRIPT = Path(__file__).with_name("two_processes.py")
TOLERANCE = 1e-4
"""Largest difference of two patches, by the length of one of them: sums are rounded in another order."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with twelve photos of each of four classes of the embedded world."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    images = open_data("sandbox:photo@stop")
    for name in ("mug", "bowl", "cat", "car"):
        (folder / name).mkdir(parents=True)
        label = images.classes.index(name)
        for place in [place for place, each in enumerate(images.labels) if each == label][:12]:
            images.picture(place).save(folder / name / f"{place}.png")
    return folder


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def launch(count: int) -> list[str]:
    """Return the words that start a script in so many processes on this machine's processor alone."""
    words = ["-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--num_processes", str(count)]
    words += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    return [
        sys.executable,
        *words,
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--num_cpu_threads_per_process",
        "1",
    ]


def carried_out(command: list[str], folder: Path) -> None:
    """Run a command to its good end, without a configuration of this machine's user and without a network."""
    environment = {
        **os.environ,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "CLIP_UNLEARN_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def deltas(patch: Path) -> dict[str, Tensor]:
    return {key: value.double() for key, value in tensors.read(patch / "patch.safetensors").items()}


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Return the length of the difference of two patches over that of the second."""
    assert first.keys() == second.keys()
    apart = sum(float((first[name] - second[name]).pow(2).sum()) for name in second)
    return (apart / sum(float(value.pow(2).sum()) for value in second.values())) ** 0.5


@pytest.mark.slow
def test_two_processes_give_the_patch_of_one(tmp_path: Path, pictures: Path) -> None:
    """Also where each of them embeds its share in parts."""
    arguments = [str(SCRIPT), str(pictures)]
    carried_out([sys.executable, *arguments, str(tmp_path / "one")], tmp_path)
    carried_out([*launch(2), *arguments, str(tmp_path / "two")], tmp_path)
    carried_out([*launch(2), *arguments, str(tmp_path / "parts"), "2"], tmp_path)
    one, two, parts = (deltas(tmp_path / name) for name in ("one", "two", "parts"))
    assert len(one) > 20
    assert sum(float(value.abs().sum()) for value in one.values()) > 0
    assert distance(two, one) < TOLERANCE
    assert distance(parts, one) < TOLERANCE


@pytest.mark.slow
def test_the_command_line_in_two_processes(tmp_path: Path, pictures: Path) -> None:
    """The main process writes the run's folder and its journal, and nothing else is left."""
    asked = ["-m", "clip_unlearn", "forget", "--model", "sandbox", "--forget", "mug", "--data", str(pictures)]
    asked += ["--method", "cliperase", "--set", "descent.steps=4", "--set", "descent.check_every=2"]
    asked += ["--set", "descent.rate=0.003", "--set", "descent.retain_batch=11", "--set", "descent.forget_batch=7"]
    folder = tmp_path / "runs"
    folder.mkdir()
    carried_out([sys.executable, *asked, "--out", str(folder / "one")], tmp_path)
    carried_out([*launch(2), *asked, "--out", str(folder / "two")], tmp_path)
    assert {path.name for path in folder.iterdir()} == {"one", "two"}
    files = [{str(path.relative_to(out)) for path in out.rglob("*")} for out in (folder / "one", folder / "two")]
    assert files[0] == files[1]
    one, two = (deltas(folder / name / "patch") for name in ("one", "two"))
    assert distance(two, one) < TOLERANCE
