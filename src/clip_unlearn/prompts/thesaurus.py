"""Other names of common nouns: our own list, one sense per line, in `vocabulary/nouns.txt`.

The names of a line are true names of one kind of thing. What is wider ("vessel" for a cup), narrower ("teacup") or
next to it ("mug") is no synonym and stands in no line with it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, final

from clip_unlearn.core.request import SEPARATOR, key
from clip_unlearn.prompts.wordings import plural

_IRREGULAR: Final = (
    ("man", "men"),
    ("child", "children"),
    ("person", "people"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("ox", "oxen"),
    ("ife", "ives"),
    ("f", "ves"),
)
"""How words end that have no regular plural. A form that nobody writes, as "boxen", does no harm."""


@final
@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A line of the list, with the spellings it is compared by."""

    names: tuple[str, ...]
    """The noun and its synonyms."""

    spellings: frozenset[str]
    """The names as `spelling` folds them."""

    plurals: frozenset[str]
    """The plurals of the names, folded."""

    kinds: frozenset[str]
    """What the noun is a kind of by its words, folded: "bear" for "polar bear"."""

    kind_plurals: frozenset[str]
    """The plurals of the kinds, folded."""


@cache
def senses() -> tuple[tuple[str, ...], ...]:
    """Return the lines of the list, alphabetical by the noun: each a noun and its synonyms. No name stands in two."""
    return tuple(entry.names for entry in _entries())


@cache
def vocabulary() -> tuple[str, ...]:
    """Return every name of the list, line by line."""
    return tuple(name for names in senses() for name in names)


def synonyms(name: str) -> tuple[str, ...]:
    """Return the other names of the sense that holds a name, in the order of the list; () when none does.

    Case, spaces, hyphens and apostrophes make no difference, and a plural finds the singular and the other way round,
    the name as it is written first: "glasses" is a line of its own, not many of a glass. What differs from the name by
    more than case and spaces is returned, so "cellphone" for "cell phone" and "sofa" for "sofas".
    """
    written, several = _index()
    form = spelling(name)
    single = (written[many] for many in sorted(plurals(form)) if many in written)
    names = written.get(form) or several.get(form) or next(single, ())
    return tuple(other for other in names if key(other) != key(name))


def without_same(names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return the lines that are about nothing that is named, in the order of the list.

    A line is about a given name if one of its names is the given name or a word of it, or if its noun ends with the
    given name, or a synonym of it, as whole words. Spellings are compared as in `synonyms`, plurals included.
    """
    given = tuple(names)
    whole = {spelling(name) for name in given}
    words = {spelling(word) for name in given for word in key(name).split(" ")}
    many = {form for name in whole for form in plurals(name)}
    others = {spelling(other) for name in given for other in synonyms(name)}

    def named(entry: _Entry) -> bool:
        same = (whole | words) & (entry.spellings | entry.plurals) or many & entry.spellings
        return bool(same or whole & (entry.kinds | entry.kind_plurals) or (many | others) & entry.kinds)

    return tuple(entry.names for entry in _entries() if not named(entry))


def spelling(name: str) -> str:
    """Return the form in which "T-shirt", "t shirt" and "tshirt" are equal: no case, space, hyphen or apostrophe."""
    return re.sub(r"[ '’‐-]", "", key(name))


def plurals(name: str) -> frozenset[str]:
    """Return the forms that may be the plural of a name: regular, in -s and -es, and with an irregular last word."""
    irregular = {name.removesuffix(one) + many for one, many in _IRREGULAR if name.endswith(one)}
    return frozenset({plural(name), f"{name}s", f"{name}es"} | irregular)


@cache
def _entries() -> tuple[_Entry, ...]:
    path = files("clip_unlearn").joinpath("prompts", "vocabulary", "nouns.txt")
    return tuple(_entry(line) for line in path.read_text(encoding="utf-8").splitlines())


def _entry(line: str) -> _Entry:
    names = tuple(part.strip() for part in line.split(SEPARATOR))
    spellings = frozenset(spelling(name) for name in names)
    words = re.split("[ -]", names[0])
    kinds = frozenset(spelling(" ".join(words[start:])) for start in range(1, len(words)))
    return _Entry(
        names=names,
        spellings=spellings,
        plurals=_all_plurals(spellings),
        kinds=kinds,
        kind_plurals=_all_plurals(kinds),
    )


def _all_plurals(forms: Iterable[str]) -> frozenset[str]:
    return frozenset(many for form in forms for many in plurals(form))


@cache
def _index() -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Return the names of a sense by the spelling of a name, and by the plural of one, the regular plural first."""
    written = {form: entry.names for entry in _entries() for form in entry.spellings}
    regular = {plural(form): names for form, names in written.items()}
    several = {many: names for form, names in written.items() for many in plurals(form)}
    return written, several | regular
