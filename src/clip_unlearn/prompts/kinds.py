"""Wider and narrower words of common nouns: our own list of kinds, in `vocabulary/kinds.txt`.

A line is a wider word and what is a kind of it. What is a kind of a kind follows; it need not be written.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from clip_unlearn.prompts import thesaurus


@cache
def listed() -> Mapping[str, tuple[str, ...]]:
    """Return the lines of the list: a wider word to the words that are kinds of it."""
    path = files("clip_unlearn").joinpath("prompts", "vocabulary", "kinds.txt")
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return MappingProxyType({wide.strip(): tuple(one.strip() for one in rest.split(",")) for wide, _, rest in lines})


def narrower(name: str) -> tuple[str, ...]:
    """Return what is a kind of a name, kinds of kinds included, alphabetical; () where the list has none.

    The name is found by any of its synonyms, in any spelling, singular or plural: "puppy" for "dogs".
    """
    return _reached(name, listed())


def wider(name: str) -> tuple[str, ...]:
    """Return what a name is a kind of, alphabetical; () where the list has none. Spelt as in `narrower`."""
    return _reached(name, _upward())


@cache
def _upward() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for wide, kinds in listed().items():
        for kind in kinds:
            found.setdefault(kind, []).append(wide)
    return MappingProxyType({kind: tuple(wides) for kind, wides in found.items()})


def _reached(name: str, steps: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    start = _same(name)
    found: set[str] = set()
    ahead = [word for word in steps if thesaurus.spelling(word) in start]
    while ahead:
        fresh = {other for word in ahead for other in steps.get(word, ())} - found
        found |= fresh
        ahead = list(fresh)
    return tuple(sorted(word for word in found if thesaurus.spelling(word) not in start))


def _same(name: str) -> frozenset[str]:
    """Return the spellings of a name, its synonyms, and of what they are the plural of."""
    names = (name, *thesaurus.synonyms(name))
    return frozenset(thesaurus.spelling(one) for one in names) | _singulars(names)


def _singulars(names: Iterable[str]) -> frozenset[str]:
    singular = _by_plural()
    return frozenset(word for name in names for word in singular.get(thesaurus.spelling(name), ()))


@cache
def _by_plural() -> Mapping[str, frozenset[str]]:
    """Return the words of the list, as spelt, by each form that may be their plural."""
    found: dict[str, set[str]] = {}
    for word in {*listed(), *_upward()}:
        single = thesaurus.spelling(word)
        for many in thesaurus.plurals(single):
            found.setdefault(many, set()).add(single)
    return MappingProxyType({many: frozenset(words) for many, words in found.items()})
