"""The file: appended to under a lock, whole or not at all."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from ledger_samples import addition, header, undoing, usual

from clip_unlearn.core import ledger_file
from clip_unlearn.errors import DataError, OutputError, RequestError, StorageError

APPENDER = """
import sys, time
from pathlib import Path
from clip_unlearn.runs import ledger
if {"torch", "numpy", "transformers"} & set(sys.modules):
    sys.exit("adding to a ledger imports a heavy library")
path, number, appends = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
while not path.with_name("go").exists():
    time.sleep(0.005)
for count in range(appends):
    ledger.add(path, [f"thing {number} {count}"], request_id=f"R-{number}-{count}")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a new ledger."""
    where = tmp_path / "requests.jsonl"
    ledger_file.create(where, header())
    return where


def test_create_append_and_read(path: Path) -> None:
    first = ledger_file.append(path, lambda _: addition("R-1", "mug"))
    second = ledger_file.append(path, lambda known: undoing(known.live[0].id))
    assert (len(first.entries), len(second.entries)) == (2, 3)
    assert ledger_file.read(path) == second
    assert path.read_bytes() == b"".join(entry.line for entry in second.entries)
    with pytest.raises(OutputError, match="exists"):
        ledger_file.create(path, header())


def test_create_makes_the_folder(tmp_path: Path) -> None:
    made = ledger_file.create(tmp_path / "new" / "requests.jsonl", header())
    assert ledger_file.read(tmp_path / "new" / "requests.jsonl") == made


def test_what_may_not_follow_is_not_written(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(RequestError, match="never added"):
        ledger_file.append(path, lambda _: undoing("R-1"))
    assert path.read_bytes() == before


@pytest.mark.parametrize("call", [ledger_file.read, lambda path: ledger_file.append(path, lambda _: undoing("R"))])
def test_what_is_no_ledger(call, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        call(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is no file"):
        call(tmp_path)
    (tmp_path / "text.txt").write_text("hello\n")
    with pytest.raises(DataError, match="not a ledger"):
        call(tmp_path / "text.txt")


def test_a_file_that_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match="cannot be read .Permission denied"):
        ledger_file.read(path)


def test_a_cut_line_stops_reading_and_adding_and_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(usual()[:-10])
    for call in (ledger_file.read, lambda where: ledger_file.append(where, lambda _: addition("R-9", "bowl"))):
        with pytest.raises(DataError, match="line 5 is cut off.*head -n 4"):
            call(path)
    assert path.read_bytes() == usual()[:-10]


def test_the_way_out_of_a_cut_line_works(path: Path) -> None:
    path.write_bytes(usual()[:-10])
    fixed = path.with_name("FIXED")
    with fixed.open("wb") as file:
        subprocess.run(["head", "-n", "4", str(path)], stdout=file, check=True)
    fixed.replace(path)
    assert len(ledger_file.append(path, lambda _: addition("R-3", "mug")).entries) == 5


def test_a_line_that_is_being_written_is_waited_for(path: Path) -> None:
    whole = usual()
    path.write_bytes(whole[:-10])

    def finish() -> None:
        time.sleep(0.2)
        path.write_bytes(whole)
        lock.release()

    lock = FileLock(f"{path}.lock", thread_local=False)
    lock.acquire()
    writer = threading.Thread(target=finish)
    writer.start()
    try:
        assert len(ledger_file.read(path).entries) == 5
    finally:
        writer.join()


@pytest.mark.parametrize("broken", ["write", "fsync"])
def test_a_full_disk_leaves_the_file_as_it_was(path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = path.read_bytes(), os.write
    calls = []

    def half(handle: int, content: bytes) -> int:
        calls.append(content)
        if len(calls) == 1:
            return real(handle, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(handle: int) -> None:
        calls.append(b"")
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(ledger_file.os, broken, half if broken == "write" else refuse)
    with pytest.raises(StorageError, match="Nothing was added"):
        ledger_file.append(path, lambda _: addition("R-1", "mug"))
    monkeypatch.undo()
    assert calls
    assert path.read_bytes() == before
    assert len(ledger_file.append(path, lambda _: addition("R-1", "mug")).entries) == 2


def test_an_interrupted_append_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger_file.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger_file.append(path, lambda _: addition("R-1", "mug"))
    assert path.read_bytes() == before


def test_waiting_for_the_lock_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "WAIT_SECONDS", 0.05)
    program = f"import sys, filelock; lock = filelock.FileLock({str(path)!r} + '.lock'); lock.acquire()"
    program += "; print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="in use by another process"):
            ledger_file.append(path, lambda _: addition("R-1", "mug"))
        # A process that dies without releasing holds nobody up.
        holder.kill()
        holder.wait()
    assert len(ledger_file.append(path, lambda _: addition("R-1", "mug")).entries) == 2


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot create"):
        ledger_file.create(tmp_path / "file" / "requests.jsonl", header())


def test_a_lock_that_cannot_be_made(path: Path) -> None:
    path.with_name("requests.jsonl.lock").unlink()
    path.with_name("requests.jsonl.lock").mkdir()
    with pytest.raises(StorageError, match="Cannot lock"):
        ledger_file.append(path, lambda _: addition("R-1", "mug"))


def test_links_to_one_ledger_share_its_lock(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.jsonl"
    link.parent.mkdir()
    link.symlink_to(path)
    assert len(ledger_file.append(link, lambda _: addition("R-1", "mug")).entries) == 2
    assert len(ledger_file.read(path).entries) == 2
    assert [one.name for one in link.parent.iterdir()] == ["link.jsonl"]


@pytest.mark.parametrize(("processes", "appends"), [(4, 10), pytest.param(16, 25, marks=pytest.mark.slow)])
def test_many_processes_lose_nothing(processes: int, appends: int, path: Path) -> None:
    command = [sys.executable, "-c", APPENDER, str(path)]
    running = [
        subprocess.Popen([*command, str(number), str(appends)], stderr=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    path.with_name("go").touch()
    errors = [process.communicate(timeout=120)[1] for process in running]
    assert errors == [""] * processes
    assert [process.returncode for process in running] == [0] * processes
    ledger = ledger_file.read(path)
    assert len(ledger.entries) == 1 + processes * appends
    assert {one.id for one in ledger.live} == {
        f"R-{number}-{count}" for number in range(processes) for count in range(appends)
    }
