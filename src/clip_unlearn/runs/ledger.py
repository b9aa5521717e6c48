"""Adding to a ledger, undoing in it, checking it. Torch-free, so that noting a request takes no longer than it must."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clip_unlearn.core import ledger_file
from clip_unlearn.core.config import build
from clip_unlearn.core.ledger import Addition, Entry, Ledger, Undoing, check_text
from clip_unlearn.core.ledger_joint import merged
from clip_unlearn.core.request import Concept
from clip_unlearn.errors import DataError, RequestError
from clip_unlearn.files import digest

ID_LENGTH: Final = 12


def add(
    ledger: Path,
    forget: Sequence[str | Concept],
    *,
    request_id: str = "",
    note: str = "",
    retain: Sequence[str] = (),
) -> Entry:
    """Append a request to forget, and return its entry once it is on the disk.

    `forget` holds concepts, or "mug" and "mug | beaker | cup" for them. Without `request_id` the request gets one made
    from its content: "R-" and 12 letters.

    Raises:
        RequestError: if a name is not usable, the id was used before, or, without an id, the same is live already.
        DataError: if the ledger is missing, changed or cut.
        StorageError: if the disk refuses; the ledger is then as it was.
    """
    values = {"kind": "add", "concepts": tuple(forget), "retain": tuple(retain), "note": note}
    asked = build(Addition, {**values, "id": request_id or "R"}, where="request")
    check_text(asked)

    def decide(known: Ledger) -> Addition:
        return asked if request_id else Addition(**{**dict(asked), "id": _new_id(known, asked)})

    return ledger_file.append(ledger, decide).entries[-1]


def undo(ledger: Path, request_id: str, *, reason: str = "") -> Entry:
    """Append the end of a request, and return the entry once it is on the disk.

    Raises:
        UnknownNameError: with the nearest id, if no request has this one.
        RequestError: if the request was undone already, or the reason is not one line.
        DataError: if the ledger is missing, changed or cut.
        StorageError: if the disk refuses; the ledger is then as it was.
    """
    asked = build(Undoing, {"kind": "undo", "id": request_id, "reason": reason}, where="undo")

    def decide(known: Ledger) -> Undoing:
        return Undoing(**{**dict(asked), "id": known.find(request_id).id})

    return ledger_file.append(ledger, decide).entries[-1]


def verify(ledger: Path, *, head: str = "") -> Ledger:
    """Return the ledger after checking its whole chain and, with `head`, that an entry noted earlier is still in it.

    The chain shows every change but one, that the last entries are gone; a hash noted elsewhere shows that too.

    Raises:
        DataError: naming the first line that is wrong and what is wrong with it, or that the noted entry is gone.
    """
    checked = ledger_file.read(ledger)
    if head and not checked.holds(head):
        raise DataError(
            f"{ledger} has no entry with hash {head[:12]}..., so entries are gone or were rewritten, or it is another "
            "ledger. Restore it from a copy."
        )
    return checked


def _new_id(ledger: Ledger, asked: Addition) -> str:
    """Return an id made from what is to be forgotten and retained; with a number where that was undone before."""
    content = _content(asked)
    first = f"R-{content[:ID_LENGTH]}"
    chosen, number = first, 1
    while chosen.casefold() in ledger.added:
        if chosen.casefold() not in ledger.undone and _content(ledger.find(chosen)) == content:
            raise RequestError(f"The same request is live already as '{chosen}'. To add it once more, give it an --id.")
        number += 1
        chosen = f"{first}-{number}"
    return chosen


def _content(addition: Addition) -> str:
    concepts = [concept.model_dump(mode="json", exclude_defaults=True) for concept in merged(addition.concepts)]
    return digest.of_json({"forget": concepts, "retain": sorted(addition.retain)})
