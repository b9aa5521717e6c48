"""One request from all live requests: it depends on which are live, not on their order or on what was undone."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias

from clip_unlearn.core.ledger import Addition, Header
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.errors import RequestError

Related: TypeAlias = Callable[[Sequence[str]], Collection[str]]
"""Which names of the background are about something that is named: "sofa" for "couch"."""


def joint_request(header: Header, live: Sequence[Addition], *, related: Related) -> Request:
    """Return the one request whose edit forgets what all live requests ask for.

    Names to forget win over names to retain, of whichever request; `overruled` lists the losers. The background also
    loses what is `related` to a name to forget.

    Raises:
        RequestError: if no request is live.
    """
    if not live:
        raise RequestError("No request of the ledger is live, so there is nothing to forget. Add one first.")
    forget = merged(concept for addition in live for concept in addition.concepts)
    forgotten = [name for concept in forget for name in concept.names]
    barred = {key(name) for name in forgotten}
    kin = barred | {key(name) for name in related(forgotten)}
    kept = _without(header.retain, barred)
    present = barred | {key(name) for name in kept}
    more = _spellings(name for addition in live for name in addition.retain)
    return Request(
        forget=forget,
        retain=(*kept, *(name for name_key, name in sorted(more.items()) if name_key not in present)),
        background=_without(header.background, kin),
        templates=header.templates,
        seed=header.seed,
    )


def overruled(header: Header, live: Sequence[Addition]) -> tuple[str, ...]:
    """Return the names that were given to be retained but that a live request forgets, sorted."""
    barred = {key(name) for addition in live for concept in addition.concepts for name in concept.names}
    wanted = _spellings([*header.retain, *(name for addition in live for name in addition.retain)])
    return tuple(name for name_key, name in sorted(wanted.items()) if name_key in barred)


def merged(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """Return the same names as concepts of which no two share one, sorted, whatever the order they came in.

    Concepts with one main name become one, with the synonyms of all. A name stands once, in its strongest role: main
    name, then synonym, then found name; a synonym that is a main name elsewhere is forgotten there. Where several
    concepts have it in the same role, the first in the alphabet keeps it. Of several spellings the smallest stands.
    """
    given = list(concepts)
    main = _spellings(concept.name for concept in given)
    synonyms = _owned(((concept.name, concept.synonyms) for concept in given), taken=set(main))
    settled = {*main, *(key(name) for names in synonyms.values() for name in names)}
    found = _owned(((concept.name, concept.found) for concept in given), taken=settled)
    return tuple(
        Concept(name=name, synonyms=synonyms.get(name_key, ()), found=found.get(name_key, ()))
        for name_key, name in sorted(main.items())
    )


def _owned(given: Iterable[tuple[str, tuple[str, ...]]], *, taken: set[str]) -> dict[str, tuple[str, ...]]:
    """Return which further names each main name has, by its key: every name not taken, once, sorted."""
    pairs = [(key(main), name) for main, names in given for name in names if key(name) not in taken]
    spelling = _spellings(name for _, name in pairs)
    owner: dict[str, str] = {}
    for main_key, name in pairs:
        owner[key(name)] = min(main_key, owner.get(key(name), main_key))
    owned: dict[str, tuple[str, ...]] = {}
    for name_key, name in sorted(spelling.items()):
        owned[owner[name_key]] = (*owned.get(owner[name_key], ()), name)
    return owned


def _spellings(names: Iterable[str]) -> dict[str, str]:
    """Return one spelling of each name by its key: the smallest, so that no order matters."""
    chosen: dict[str, str] = {}
    for name in names:
        name_key = key(name)
        chosen[name_key] = min(name, chosen.get(name_key, name))
    return chosen


def _without(names: Iterable[str], barred: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names if key(name) not in barred)
