"""The file of a ledger: read whole, appended to under a lock, never rewritten. Torch-free."""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from clip_unlearn.core.ledger import Entry, Header, Ledger, Payload
from clip_unlearn.core.ledger_chain import extended, parse
from clip_unlearn.errors import DataError, OutputError, StorageError
from clip_unlearn.files import atomic
from clip_unlearn.files.paths import existing

SIZE_LIMIT: Final = 1_000_000_000
WAIT_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.01


def read(path: Path) -> Ledger:
    """Return the checked ledger in a file.

    Raises:
        DataError: if the file is missing, unreadable, not a ledger, changed or cut, with the line and the way out.
    """
    found = existing(path, what="Ledger")
    content = _content(found)
    if not content.endswith(b"\n") and _lock_path(found).exists():
        # Perhaps a line is being written just now; under the lock none is.
        with _locked(found):
            content = _content(found)
    return parse(content, where=str(path))


def create(path: Path, header: Header) -> Ledger:
    """Write a new ledger with its header and return it.

    Raises:
        OutputError: if something is at `path` already.
        StorageError: if the disk refuses, or another process holds the lock for two minutes.
    """
    check_free(path)
    entry = Entry.after(None, header, time=now())
    ledger = parse(entry.line, where=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Cannot create {path}: {error.strerror or error}. Choose another folder.") from error
    with _locked(path):
        check_free(path)
        atomic.write_bytes(path, entry.line)
    return ledger


def append(path: Path, decide: Callable[[Ledger], Payload]) -> Ledger:
    """Add one entry to the file and return the longer ledger; `decide` says which, from the ledger as it is.

    An exclusive lock is held from reading to writing, so that appends of several processes come one after another and
    none is lost. The line is on the disk when this returns; when the disk refuses, the file is as it was.

    Raises:
        DataError: if the file is missing, not a ledger, changed or cut.
        RequestError: if the entry may not follow.
        StorageError: if the disk refuses, or another process holds the lock for two minutes.
    """
    found = existing(path, what="Ledger")
    with _locked(found):
        ledger = parse(_content(found), where=str(path))
        payload = decide(ledger)
        ledger.check(payload)
        entry = Entry.after(ledger.entries[-1], payload, time=now())
        longer = extended(ledger, entry)
        _write(found, entry.line)
    return longer


def check_free(path: Path) -> None:
    """Check that a ledger can be created at `path`.

    Raises:
        OutputError: if something is there.
    """
    if path.exists():
        raise OutputError(f"{path} exists. Add to it with 'clip-unlearn ledger add', or give another file.")


def now() -> str:
    """Return the time, UTC, ISO 8601, in whole seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _content(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > SIZE_LIMIT:
        raise DataError(f"{path} is no file of at most {SIZE_LIMIT // 1_000_000} MB. Give the file of a ledger.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}). Check the file.") from error


def _write(path: Path, line: bytes) -> None:
    try:
        with path.open("r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                _write_whole(file.fileno(), line)
                os.fsync(file.fileno())
            except BaseException:
                # Also when interrupted: half a line must not stay.
                file.truncate(size)
                raise
    except OSError as error:
        raise StorageError(f"Cannot write {path}: {error.strerror or error}. Nothing was added; free space.") from error


def _write_whole(handle: int, line: bytes) -> None:
    written = 0
    while written < len(line):
        written += os.write(handle, line[written:])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(_lock_path(path))
    try:
        lock.acquire(timeout=WAIT_SECONDS, poll_interval=POLL_SECONDS)
    except Timeout as error:
        raise StorageError(
            f"{path} has been in use by another process for {WAIT_SECONDS:.0f} seconds. Try again when it is done."
        ) from error
    except OSError as error:
        raise StorageError(f"Cannot lock {path}: {error.strerror or error}. Check the folder.") from error
    try:
        yield
    finally:
        lock.release()


def _lock_path(path: Path) -> Path:
    """Return the lock beside the file itself, so that links to one ledger share one lock."""
    whole = Path(os.path.realpath(path))
    return whole.with_name(f"{whole.name}.lock")
