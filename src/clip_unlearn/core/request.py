"""What to forget, what to keep, on what evidence, with which seed. Torch-free and JSON-able."""

import unicodedata
from collections.abc import Iterable
from typing import Self, final

from pydantic import Field, field_validator, model_validator

from clip_unlearn.core.config import Config
from clip_unlearn.errors import RequestError
from clip_unlearn.files import digest

NAME_LIMIT = 200
SEPARATOR = "|"
"""Stands between a name and its synonyms."""
DEFAULT_TEMPLATES = ("a photo of a {}.",)


@final
class Concept(Config):
    """One thing with a name: a class, an object, a person, a style."""

    name: str
    """The name that the model knows it by."""

    synonyms: tuple[str, ...] = ()
    """Other names of the same thing, to be forgotten with it."""

    found: tuple[str, ...] = ()
    """Further names that were looked up in a thesaurus, to be forgotten with it."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        """Accept `mug` and `mug | beaker | cup` for a name and its synonyms."""
        if not isinstance(value, str):
            return value
        name, *synonyms = (part.strip() for part in value.split(SEPARATOR))
        return {"name": name, "synonyms": tuple(synonyms)}

    @field_validator("name", mode="after")
    @classmethod
    def _clean_name(cls, name: str) -> str:
        return clean_name(name)

    @field_validator("synonyms", "found", mode="after")
    @classmethod
    def _clean_synonyms(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean_name(name) for name in names)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name, its synonyms, and the names that were found for it, in this order."""
        return (self.name, *self.synonyms, *self.found)


@final
class Evidence(Config):
    """Images that a method may learn from: where they are and the digest of their content."""

    where: str
    """A data source that `open_data` understands."""

    digest: str
    """SHA-256 over the content; probes refuse data that overlaps with it."""


@final
class Request(Config):
    """What to forget, what to keep, on what evidence, with which seed."""

    forget: tuple[Concept, ...]
    """The concepts to forget; at least one."""

    retain: tuple[str, ...] = ()
    """Names of what must still be recognised."""

    background: tuple[str, ...] = ()
    """Names of the rest of the world, which no one asked about but which should not change either."""

    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    """Sentences with one {} where a name goes."""

    evidence: Evidence | None = None
    """Images that the method may use; None for methods that work from texts."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of everything random in the method."""

    @field_validator("retain", "background", mode="after")
    @classmethod
    def _clean_retain(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(clean_name(name) for name in names)

    @field_validator("templates", mode="after")
    @classmethod
    def _check_templates(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise RequestError(f"Template {template!r} must contain {{}} exactly once, where the name goes.")
        if not templates:
            raise RequestError("No template. Give at least one sentence with {} where the name goes.")
        return templates

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if not self.forget:
            raise RequestError("Nothing to forget. Name at least one class with --forget NAME.")
        _refuse_twice((name for concept in self.forget for name in concept.names), "forget")
        _refuse_twice(self.retain, "retain")
        _refuse_twice(self.background, "background")
        kept = {key(name) for name in (*self.retain, *self.background)}
        for concept in self.forget:
            for name in concept.names:
                if key(name) in kept:
                    raise RequestError(
                        f"'{name}' is to be forgotten and to be retained. Remove it from one of the lists."
                    )
        return self

    def sentences(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return every name in every template, name by name: len(names) x len(templates) sentences."""
        return tuple(template.replace("{}", name) for name in names for template in self.templates)

    @property
    def forget_names(self) -> tuple[str, ...]:
        """Return the names of the concepts, without synonyms."""
        return tuple(concept.name for concept in self.forget)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of what the request says beyond defaults, so that new fields leave old digests alone."""
        return digest.of_json(self.model_dump(mode="json", exclude_defaults=True))


def clean_name(name: str) -> str:
    """Return the name in Unicode form NFC, without outer or double spaces.

    Raises:
        RequestError: if it is empty, longer than 200 characters, is not proper Unicode, or holds control
            characters or braces.
    """
    text = " ".join(word for word in unicodedata.normalize("NFC", name).split(" ") if word).strip()
    if not text:
        raise RequestError("A name is empty. Give every class a name.")
    if len(text) > NAME_LIMIT:
        raise RequestError(f"Name '{text[:40]}...' has {len(text)} characters. Keep names under {NAME_LIMIT}.")
    if any(unicodedata.category(letter) == "Cs" for letter in text):
        raise RequestError(f"Name {text!r} is not proper Unicode. Give it in UTF-8.")
    if any(unicodedata.category(letter) == "Cc" for letter in text) or "{" in text or "}" in text:
        raise RequestError(f"Name {text!r} holds control characters or braces. Remove them.")
    return text


def key(name: str) -> str:
    """Return the form in which two spellings of one name are equal: case, spaces and underscores folded."""
    return " ".join(name.replace("_", " ").casefold().split())


def _refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if key(name) in seen:
            raise RequestError(f"'{name}' stands twice in the {what} list. Remove one.")
        seen.add(key(name))
