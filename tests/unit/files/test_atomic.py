"""Writes under a failing disk: afterwards there is the old state or the new state, and nothing beside it."""

import errno
import json
import os
from pathlib import Path

import pytest

from clip_unlearn.errors import OutputError, StorageError
from clip_unlearn.files import atomic


class FailingDisk:
    """Makes the n-th call of one function of the operating system fail with "no space left"."""

    def __init__(self, patcher, owner, name, *, call=1):
        self.calls, real = 0, getattr(owner, name)

        def failing(*args, **kwargs):
            self.calls += 1
            if self.calls == call:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*args, **kwargs)

        patcher.setattr(owner, name, failing)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


STEPS = [(os, "fsync"), (Path, "replace"), (os, "fdopen"), (atomic.tempfile, "mkstemp"), (Path, "mkdir")]


def test_writes_and_overwrites(tmp_path):
    for content in (b"old", b"new"):
        atomic.write_bytes(tmp_path / "deep" / "file", content)
        assert everything(tmp_path) == {"deep/file": content}


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, owner, name):
    path = tmp_path / "file"
    atomic.write_bytes(path, b"old")
    FailingDisk(monkeypatch, owner, name)
    with pytest.raises(StorageError, match=r"No space left on device\. Free space or choose another folder\.$"):
        atomic.write_bytes(path, b"new")
    monkeypatch.undo()
    assert everything(tmp_path) == {"file": b"old"}


def test_a_failing_sync_of_the_folder_leaves_the_new_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic.write_bytes(path, b"old")
    FailingDisk(monkeypatch, os, "fsync", call=2)
    with pytest.raises(StorageError):
        atomic.write_bytes(path, b"new")
    assert everything(tmp_path) == {"file": b"new"}


def test_json_is_sorted_utf8_with_a_final_newline(tmp_path):
    atomic.write_json(tmp_path / "x.json", {"b": 1, "a": "é"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": "é", "b": 1}
    assert text.index('"a": "é"') < text.index('"b"')
    assert text.endswith("}\n")


def test_a_new_folder_appears_whole(tmp_path):
    with atomic.new_folder(tmp_path / "out") as folder:
        (folder / "part").write_text("content")
        assert not (tmp_path / "out").exists()
    assert everything(tmp_path) == {"out/part": b"content"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_a_new_folder_leaves_nothing_when_its_block_fails(tmp_path, error):
    expected = StorageError if error is OSError else error
    with pytest.raises(expected), atomic.new_folder(tmp_path / "out") as folder:
        (folder / "part").write_text("content")
        raise error
    assert list(tmp_path.iterdir()) == []


def fill(path: Path, content: str, *, force: bool = False) -> None:
    with atomic.new_folder(path, force=force) as folder:
        (folder / "part").write_text(content)


SWAP_STEPS = [(Path, "replace", 1), (Path, "replace", 2), (os, "fsync", 1), (atomic.tempfile, "mkdtemp", 1)]


@pytest.mark.parametrize(("owner", "name", "call"), [*SWAP_STEPS, (atomic.tempfile, "mkdtemp", 2)])
def test_a_failing_swap_leaves_the_old_folder(tmp_path, monkeypatch, owner, name, call):
    fill(tmp_path / "out", "old")
    FailingDisk(monkeypatch, owner, name, call=call)
    with pytest.raises(StorageError):
        fill(tmp_path / "out", "new", force=True)
    monkeypatch.undo()
    assert everything(tmp_path) == {"out/part": b"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_replaces_a_folder_and_leaves_no_rest(tmp_path):
    fill(tmp_path / "out", "old")
    fill(tmp_path / "out", "new", force=True)
    assert everything(tmp_path) == {"out/part": b"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_folder_is_not_replaced_unasked(tmp_path):
    fill(tmp_path / "out", "old")
    with pytest.raises(OutputError, match=r"not empty.*--force\.$"):
        fill(tmp_path / "out", "new")
    assert everything(tmp_path) == {"out/part": b"old"}


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "new")
    assert everything(tmp_path) == {"out/part": b"new"}


def test_a_file_is_never_replaced_by_a_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match=r"is a file\. Give a folder"):
        fill(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out").read_text() == "mine"
