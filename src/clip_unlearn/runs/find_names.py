"""Which names an image is compared with when a concept is looked for, and which take no side. d embedding width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.errors import SettingError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import ALIKE, name_rows
from clip_unlearn.prompts import kinds, thesaurus
from clip_unlearn.prompts.expand import common_nouns
from clip_unlearn.runs.names import Background

SENTENCES: Final = (
    "a photo of a {}.",
    "a picture that shows a {}.",
    "a {} seen from close up.",
    "a small {} in a large scene.",
)
"""How names are put where no templates are given."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Names:
    """The concept and everything that it is told apart from."""

    concept: Concept
    """With the synonyms that were found for it."""

    others: tuple[str, ...]
    """What counts against it: the names given, then nouns."""

    given: int
    """How many of the others were given."""

    neutral: tuple[str, ...]
    """Nouns that count neither for nor against it."""

    own_rows: Tensor
    """Unit embeddings of the concept's names, in float64: [number of its names, d]."""

    other_rows: Tensor
    """Unit embeddings of the others, in float64: [number of others, d]."""


def names_of(model: Model, request: Request, background: Background) -> Names:
    """Return what counts for the one concept of a request, and what against it.

    For: its names, and the synonyms that the thesaurus has for them, where the model itself takes a synonym for the
    name: it is closer to it than everything that counts against. Against: the names to retain, which the user gave,
    and common nouns. Neither: nouns that the thesaurus says are the same thing or a kind of it by their words
    (`common_nouns`), nouns that are wider or narrower words for it in the list of kinds ("puppy" and "animal" for
    "dog"), and nouns that the model does not tell from it, with a cosine of 0.97 or more about the mean noun. What the
    user gave always counts.

    Raises:
        SettingError: if nothing is left to tell the concept apart from.
    """
    (concept,) = request.forget
    given = request.retain
    nouns, neutral = _nouns(concept, given) if background == "nouns" else ((), ())
    if not (*given, *nouns):
        raise SettingError("There is nothing to tell it apart from. Give --not NAME, or leave out --background none.")
    own = unit(name_rows(model, request, concept.names))
    rows = {
        name: row for names in (given, nouns) for name, row in zip(names, _rows(model, request, names), strict=True)
    }
    alike = _alike(own, nouns, rows)
    nouns = tuple(noun for noun in nouns if noun not in alike)
    if not (*given, *nouns):
        raise SettingError("The model does not tell it from any noun. Give --not NAME, or another name.")
    against = torch.stack([rows[name] for name in (*given, *nouns)])
    found, found_rows = _known_synonyms(model, request, own[:1], against)
    return Names(
        concept=Concept(name=concept.name, synonyms=concept.synonyms, found=(*concept.found, *found)),
        others=(*given, *nouns),
        given=len(given),
        neutral=tuple(sorted({*neutral, *alike})),
        own_rows=torch.cat([own, found_rows]),
        other_rows=against,
    )


def _nouns(concept: Concept, given: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the common nouns that count against a concept, and those that take no side."""
    claimed = {thesaurus.spelling(name) for name in given}
    related = {thesaurus.spelling(one) for name in concept.names for one in (*kinds.narrower(name), *kinds.wider(name))}
    free = [noun for noun in common_nouns() if thesaurus.spelling(noun) not in claimed]
    apart = set(common_nouns(without=concept.names))
    against = tuple(noun for noun in free if noun in apart and thesaurus.spelling(noun) not in related)
    return against, tuple(noun for noun in free if noun not in set(against))


def _rows(model: Model, request: Request, names: Sequence[str]) -> Tensor:
    return unit(name_rows(model, request, names))


def _alike(own: Tensor, nouns: Sequence[str], rows: dict[str, Tensor]) -> set[str]:
    """Return the nouns that the model does not tell from one of the concept's names."""
    if not nouns:
        return set()
    all_rows = torch.stack([rows[noun] for noun in nouns])
    centre = all_rows.mean(0)
    nearest = (unit(all_rows - centre) @ unit(own - centre).T).amax(1).tolist()
    return {noun for noun, cosine in zip(nouns, nearest, strict=True) if cosine >= ALIKE}


def _known_synonyms(model: Model, request: Request, name: Tensor, against: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """Return the synonyms of the thesaurus that the model takes for the name, and their rows."""
    (concept,) = request.forget
    claimed = {key(one) for one in (*concept.names, *request.retain)}
    offered: dict[str, str] = {}
    for one in concept.names:
        for other in thesaurus.synonyms(one):
            if key(other) not in claimed:
                offered.setdefault(key(other), other)
    names = tuple(offered.values())
    if not names:
        return (), name[:0]
    rows = _rows(model, request, names)
    near = (rows @ name[0] > (against @ name[0]).max()).nonzero().flatten()
    return tuple(names[place] for place in near.tolist()), rows[near]
