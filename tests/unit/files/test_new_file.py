"""A large file written in pieces appears whole or not at all."""

import errno
import os
import stat

import pytest

from clip_unlearn.errors import OutputError, StorageError
from clip_unlearn.files import atomic


def test_it_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "file.bin"
    with atomic.new_file(path) as file:
        file.write(b"one")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"onetwo"
    assert os.listdir(path.parent) == ["file.bin"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~atomic._umask()


def test_it_vanishes_when_the_block_fails(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), atomic.new_file(path, force=True) as file:
        file.write(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with (
        pytest.raises(StorageError, match=r"Cannot write .*: No space left.*\. Free space"),
        atomic.new_file(path, force=True),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_what_is_there_is_kept(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists\. Choose another with --out"), atomic.new_file(path):
        pass
    with pytest.raises(OutputError, match="is a folder"), atomic.new_file(tmp_path, force=True):
        pass
    assert path.read_bytes() == b"old"
