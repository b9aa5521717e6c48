"""Removal requests for one base model as a chain of entries: what an entry says, and what may follow. Torch-free."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self, TypeAlias, final

from pydantic import Field, field_validator, model_validator

from clip_unlearn.core.config import Config
from clip_unlearn.core.record import Setting, Source
from clip_unlearn.core.request import Concept, Request, clean_name
from clip_unlearn.errors import RequestError, UnknownNameError, nearest
from clip_unlearn.files import digest

SCHEMA: Final = 1
ID_LIMIT: Final = 100
TEXT_LIMIT: Final = 1000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/#-]*")


@final
class Header(Config):
    """What all requests of a ledger share; its first entry, which nothing changes later."""

    kind: Literal["open"]
    schema_version: Literal[1]
    version: str
    """Version of this package that opened the ledger."""

    base: Source
    """The base model, with the fingerprint of its weights."""

    method: str
    """Name of the method that makes the joint edit."""

    settings: dict[str, Setting]
    """All settings of the method, defaults too, so that a later default does not change the edit."""

    templates: tuple[str, ...]
    """Sentences with one {} where a name goes."""

    retain: tuple[str, ...]
    """Names of what must still be recognised."""

    background: tuple[str, ...]
    """Names of the rest of the world; other names of what is forgotten, and kinds of it, leave the list."""

    other_names: Literal["auto", "wordnet", "none"]
    """Where other names of what is forgotten come from when the requests are composed."""

    seed: int = Field(ge=0, lt=2**31)
    """Seed of everything random in the method. Always written: it has no default here."""

    @field_validator("retain", "background", mode="after")
    @classmethod
    def _clean_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean_name(name) for name in names)

    @model_validator(mode="after")
    def _check(self) -> Self:
        # Requests will be made of these parts; their own rules say what is wrong with them.
        Request(
            forget=(_STAND_IN,),
            retain=self.retain,
            background=self.background,
            templates=self.templates,
            seed=self.seed,
        )
        return self


@final
class Addition(Config):
    """A request to forget, under an id that no other request of the ledger ever had."""

    kind: Literal["add"]
    id: str
    """Given by the user, such as R-2026-014, or made from the content."""

    concepts: tuple[Concept, ...]
    """What to forget."""

    retain: tuple[str, ...] = ()
    """Names that this request adds to what must still be recognised."""

    note: str = ""

    @field_validator("id", mode="after")
    @classmethod
    def _check_id(cls, text: str) -> str:
        if len(text) > ID_LIMIT or not _ID.fullmatch(text):
            raise RequestError(
                f"Request id {text[:40]!r} is not usable. Use up to {ID_LIMIT} letters, digits and . _ : / # - "
                "beginning with a letter or digit, such as R-2026-014."
            )
        return text

    @field_validator("note", mode="after")
    @classmethod
    def _check_note(cls, text: str) -> str:
        return _plain(text, "note")

    @field_validator("retain", mode="after")
    @classmethod
    def _clean_retain(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean_name(name) for name in names)

    @model_validator(mode="after")
    def _check(self) -> Self:
        Request(forget=self.concepts, retain=self.retain)
        return self


@final
class Undoing(Config):
    """The end of a request, as if it had never been made."""

    kind: Literal["undo"]
    id: str
    """The request that no longer counts."""

    reason: str = ""

    @field_validator("reason", mode="after")
    @classmethod
    def _check_reason(cls, text: str) -> str:
        return _plain(text, "reason")


Payload: TypeAlias = Annotated[Header | Addition | Undoing, Field(discriminator="kind")]


@final
class Entry(Config):
    """One line of a ledger, tied to the line before it by that line's hash."""

    sequence: int
    """Position in the ledger; the header is 0."""

    previous: str
    """Hash of the entry before; empty for the header."""

    time: str
    """When it was written, UTC, ISO 8601."""

    payload: Payload
    hash: str
    """SHA-256 over the canonical JSON of everything else: sorted keys, no spaces, UTF-8."""

    @classmethod
    def after(cls, before: "Entry | None", payload: Payload, *, time: str) -> "Entry":
        """Return the entry that follows `before`, or the first one.

        Raises:
            RequestError: if a text of the payload is not proper Unicode.
        """
        check_text(payload)
        sequence, previous = (0, "") if before is None else (before.sequence + 1, before.hash)
        unsigned = cls(sequence=sequence, previous=previous, time=time, payload=payload, hash="")
        return cls(**{**dict(unsigned), "hash": digest.of_json(unsigned._content())})

    @property
    def request_id(self) -> str:
        """Return the id of the request that the entry adds or ends; empty for the header."""
        return "" if isinstance(self.payload, Header) else self.payload.id

    @property
    def line(self) -> bytes:
        """Return the entry as its one line: canonical JSON, which begins with the hash, and a newline."""
        whole = {"hash": self.hash, **self._content()}
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    def _content(self) -> dict[str, object]:
        """Return everything but the hash; what equals a default is left out, so that lines stay short."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"hash"})


@final
@dataclass(frozen=True, kw_only=True)
class Ledger:
    """A header and the entries after it, all checked. Undone requests stay in it and count for nothing."""

    entries: tuple[Entry, ...]
    header: Header
    added: Mapping[str, Entry]
    """Every request ever added, by its id in lower case, in the order of adding."""

    undone: Mapping[str, Entry]
    """The entry that ended a request, by the request's id in lower case."""

    @property
    def head(self) -> str:
        """Return the hash of the last entry; whoever noted it can tell later that nothing before it has changed."""
        return self.entries[-1].hash

    @property
    def live(self) -> tuple[Addition, ...]:
        """Return the requests that were not undone, in the order of adding."""
        return tuple(addition_of(entry) for request_id, entry in self.added.items() if request_id not in self.undone)

    def find(self, request_id: str) -> Addition:
        """Return the request of that id, live or undone; upper and lower case are alike.

        Raises:
            UnknownNameError: with the nearest id, if there is none.
        """
        entry = self.added.get(request_id.casefold())
        if entry is None:
            known = [addition_of(one).id for one in self.added.values()]
            way = "See the ids with 'clip-unlearn ledger list --all'." if known else "No request was added yet."
            raise UnknownNameError(f"The ledger has no request '{request_id}'.{nearest(request_id, known)} {way}")
        return addition_of(entry)

    def reason(self, request_id: str) -> str:
        """Return why a request was undone; empty if it was not, or no reason was given."""
        end = self.undone.get(request_id.casefold())
        return end.payload.reason if end is not None and isinstance(end.payload, Undoing) else ""

    def holds(self, head: str) -> bool:
        """Return True if an entry has this hash, so that everything up to it is as it was when the hash was noted."""
        return any(entry.hash == head for entry in self.entries)

    def check(self, payload: Payload) -> None:
        """Check that an entry may follow; see `check_payload`."""
        check_payload(payload, self.added, self.undone)


def check_payload(payload: Payload, added: Mapping[str, Entry], undone: Mapping[str, Entry]) -> None:
    """Check that an entry may follow the requests so far.

    Raises:
        RequestError: if the id of an addition was used before, what is undone is not live, or it is a second header.
    """
    if isinstance(payload, Header):
        raise RequestError("A ledger is opened once. Open another file for another model.")
    request_id = payload.id.casefold()
    if isinstance(payload, Addition):
        if request_id in added:
            state = "undone since" if request_id in undone else "live"
            raise RequestError(
                f"Request id '{payload.id}' was used before (entry {added[request_id].sequence}, {state}). No id is "
                "used twice: choose another with --id."
            )
    elif request_id not in added:
        raise RequestError(f"Request '{payload.id}' was never added. Undo only what was added.")
    elif request_id in undone:
        end = undone[request_id]
        raise RequestError(
            f"Request '{payload.id}' was undone already (entry {end.sequence}, {end.time}). To forget it after all, "
            "add it under a new id."
        )


def check_text(payload: Payload) -> None:
    """Check that every text can be written as UTF-8; what a terminal passes on in another encoding cannot.

    Raises:
        RequestError: if one cannot.
    """
    try:
        digest.of_json(payload.model_dump(mode="json"))
    except UnicodeEncodeError as error:
        raise RequestError("A name or text is not proper Unicode. Give it in UTF-8.") from error


def addition_of(entry: Entry) -> Addition:
    """Return the request that an entry adds.

    Raises:
        TypeError: if it adds none.
    """
    if not isinstance(entry.payload, Addition):
        raise TypeError(f"entry {entry.sequence} adds no request")
    return entry.payload


def _plain(text: str, what: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise RequestError(f"The {what} has {len(text)} characters. Keep it under {TEXT_LIMIT}.")
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise RequestError(f"The {what} {text[:40]!r} holds control characters or line breaks. Write it in one line.")
    return text


_STAND_IN: Final = Concept(name="clip-unlearn stand-in for something to forget")
