"""Small ledgers for the tests."""

from clip_unlearn.core.ledger import Addition, Entry, Header, Payload, Undoing
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Concept

TIME = "2026-05-03T12:00:00+00:00"


def header(**values: object) -> Header:
    """Return a header for a model that does not exist."""
    usual = {
        "kind": "open",
        "schema_version": 1,
        "version": "0.0",
        "base": Source(where="org/name", revision="abc", digest="f00d"),
        "method": "project",
        "settings": {"strength": 0.9, "centre": "retain"},
        "templates": ("a photo of a {}.",),
        "retain": ("cat", "dog"),
        "background": (),
        "other_names": "none",
        "seed": 0,
    }
    return Header.model_validate({**usual, **values})


def addition(request_id: str, *concepts: str | Concept, retain: tuple[str, ...] = (), note: str = "") -> Addition:
    """Return a request to forget."""
    given = {"kind": "add", "id": request_id, "concepts": concepts, "retain": retain, "note": note}
    return Addition.model_validate(given)


def undoing(request_id: str, reason: str = "") -> Undoing:
    """Return the end of a request."""
    return Undoing(kind="undo", id=request_id, reason=reason)


def chain(*payloads: Payload) -> list[Entry]:
    """Return entries that follow each other, without asking whether they may."""
    entries: list[Entry] = []
    for payload in payloads:
        entries.append(Entry.after(entries[-1] if entries else None, payload, time=TIME))
    return entries


def content(*payloads: Payload) -> bytes:
    """Return the bytes of a ledger with these entries."""
    return b"".join(entry.line for entry in chain(*payloads))


def usual() -> bytes:
    """Return a ledger with a little of everything."""
    return content(
        header(),
        addition("R-1", "mug | cup | beaker", note="letter of 3 May, ärztlich"),
        addition("R-2", Concept(name="sports car", found=("roadster",)), retain=("truck",)),
        undoing("R-1", "withdrawn"),
        addition("R-3", "mug"),
    )
