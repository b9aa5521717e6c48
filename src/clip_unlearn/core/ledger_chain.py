"""The bytes of a ledger to checked entries: every line is tied to the one before it. Torch-free."""

import hashlib
import re
from typing import Final

from pydantic import ValidationError

from clip_unlearn.core.ledger import Addition, Entry, Header, Ledger, check_payload
from clip_unlearn.errors import DataError, InputError

SHOWN: Final = 12
"""How many letters of a hash a message shows."""

_LINE: Final = re.compile(rb'\{"hash":"([0-9a-f]{64})",(.+\})\n')


def parse(content: bytes, *, where: str) -> Ledger:
    """Return the ledger in a file's bytes.

    Found is every change of a byte, and every line removed, added, moved or cut, except that the last lines are gone:
    that only a hash noted elsewhere can tell (`Ledger.holds`).

    Raises:
        DataError: naming the first line that is wrong, what is wrong with it and the way out.
    """
    if not content:
        raise DataError(f"{where} is empty. Create a ledger with 'clip-unlearn ledger create'.")
    lines = content.split(b"\n")
    header, entries = _first(lines[0] + b"\n", where), list[Entry]()
    added: dict[str, Entry] = {}
    undone: dict[str, Entry] = {}
    for number, line in enumerate(lines[:-1], start=1):
        entry = _follow(line + b"\n", entries[-1] if entries else None, where=where, number=number)
        if entries:
            _count(entry, added, undone, where=f"{where} line {number}")
        entries.append(entry)
    if lines[-1]:
        raise _cut(where, len(lines))
    return Ledger(entries=tuple(entries), header=header, added=added, undone=undone)


def extended(ledger: Ledger, entry: Entry) -> Ledger:
    """Return the ledger with one more entry, checked as it is when it is read.

    Raises:
        DataError: if the entry does not follow.
    """
    added, undone = dict(ledger.added), dict(ledger.undone)
    where = f"entry {entry.sequence}"
    checked = _follow(entry.line, ledger.entries[-1], where=where, number=entry.sequence + 1)
    _count(checked, added, undone, where=where)
    return Ledger(entries=(*ledger.entries, checked), header=ledger.header, added=added, undone=undone)


def _first(line: bytes, where: str) -> Header:
    try:
        payload = Entry.model_validate_json(line).payload
    except (ValidationError, InputError) as error:
        raise DataError(
            f"{where} is not a ledger, or its line 1 was changed: {_reason(error)}. Create one with "
            "'clip-unlearn ledger create', or restore it from a copy."
        ) from error
    if not isinstance(payload, Header):
        raise _changed(where, 1, "it does not open a ledger, so the first line is gone")
    return payload


def _follow(line: bytes, before: Entry | None, *, where: str, number: int) -> Entry:
    """Return the entry of a line after checking that its bytes have its hash and that it follows the line before.

    The hash is checked on the bytes as they stand, not on the values read from them, so no other way of writing the
    same values passes, and lines of older versions of this package stay valid.
    """
    parts = _LINE.fullmatch(line)
    try:
        entry = Entry.model_validate_json(line)
    except (ValidationError, InputError) as error:
        raise _changed(where, number, f"it is no entry ({_reason(error)})") from error
    content = hashlib.sha256(b"{" + parts[2]).hexdigest() if parts else ""
    if entry.hash != content:
        raise _changed(where, number, f"it says hash {_short(entry.hash)}, but its bytes have {_short(content)}")
    due, previous = (0, "") if before is None else (before.sequence + 1, before.hash)
    if entry.sequence != due:
        raise _changed(where, number, f"it is entry {entry.sequence} where {due} is due, so lines were moved or lost")
    if entry.previous != previous:
        raise _changed(where, number, f"it follows {_short(entry.previous)}, not {_short(previous)} of the line before")
    return entry


def _count(entry: Entry, added: dict[str, Entry], undone: dict[str, Entry], *, where: str) -> None:
    try:
        check_payload(entry.payload, added, undone)
    except InputError as error:
        raise DataError(f"{where} cannot follow the lines before it: {error} Restore the file from a copy.") from error
    role = added if isinstance(entry.payload, Addition) else undone
    role[entry.request_id.casefold()] = entry


def _changed(where: str, number: int, what: str) -> DataError:
    trusted = "The lines before it are sound. " if number > 1 else ""
    return DataError(f"{where} line {number} was changed: {what}. {trusted}Restore the file from a copy.")


def _cut(where: str, number: int) -> DataError:
    if number == 1:
        return DataError(f"{where} is cut off in its first line. Remove it and create it again, or restore a copy.")
    return DataError(
        f"{where} line {number} is cut off, so its writing was interrupted and it does not count. Lines 1 to "
        f"{number - 1} are sound: keep them with 'head -n {number - 1} {where} > FIXED', put FIXED in its place, and "
        "add or undo again."
    )


def _short(digest: str) -> str:
    return digest[:SHOWN] or "nothing"


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        return f"{place}: {problem['msg']}" if place else problem["msg"]
    return str(error).rstrip(".")
