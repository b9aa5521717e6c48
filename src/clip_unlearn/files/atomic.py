"""Writes that leave the old state or the new state, never something between."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from clip_unlearn.errors import OutputError, StorageError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file by `content`: temporary file beside it, fsync, rename, fsync of the folder.

    Raises:
        StorageError: if the disk refuses; the old file, if any, is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            temporary.chmod(0o666 & ~_umask())
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error


def write_text(path: Path, content: str) -> None:
    """Replace the file by UTF-8 text; see `write_bytes`."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """Replace the file by indented JSON with sorted keys; see `write_bytes`."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: if `path` is a file, or a folder with content and `force` is not set.
        StorageError: if the disk refuses.
    """
    check_free(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise StorageError(f"Cannot create {path}: {error.strerror or error}. Choose another folder.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _swap(temporary, path)
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield an open temporary file that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        OutputError: if `path` is a folder, or a file and `force` is not set.
        StorageError: if the disk refuses; the old file, if any, is untouched.
    """
    check_free_file(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            temporary.chmod(0o666 & ~_umask())
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"Cannot write {path}: {error.strerror or error}. Free space or choose another folder."
        ) from error


def check_free_file(path: Path, *, force: bool) -> None:
    """Check that a file can be written at `path`.

    Raises:
        OutputError: if `path` is a folder, or a file and `force` is not set.
    """
    if path.is_dir():
        raise OutputError(f"Output {path} is a folder. Give a file with --out.")
    if path.exists() and not force:
        raise OutputError(f"Output {path} exists. Choose another with --out, or replace it with --force.")


def check_free(path: Path, *, force: bool) -> None:
    """Check that a folder can be written at `path`.

    Raises:
        OutputError: if `path` is a file, or a folder with content and `force` is not set.
    """
    if path.exists() and not path.is_dir():
        raise OutputError(f"Output {path} is a file. Give a folder with --out.")
    if not force and path.is_dir() and any(path.iterdir()):
        raise OutputError(f"Output folder {path} is not empty. Choose another with --out, or replace it with --force.")


def _swap(temporary: Path, path: Path) -> None:
    for file in sorted(temporary.rglob("*")):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
        try:
            path.replace(old / "content")
            temporary.replace(path)
        except OSError:
            if (old / "content").exists():
                (old / "content").replace(path)
            old.rmdir()
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        temporary.replace(path)
    _sync_folder(path.parent)


def _umask() -> int:
    """Return which permissions new files of this process lack; temporary files are made with none for others."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
