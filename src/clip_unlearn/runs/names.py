"""Which names a request is about: other names of what is to be forgotten, and the background that should not change."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.data.texts import name_rows
from clip_unlearn.maths.vectors import unit
from clip_unlearn.prompts import thesaurus, wordnet
from clip_unlearn.prompts.expand import common_nouns

OtherNames: TypeAlias = Literal["auto", "wordnet", "none"]
"""auto: our thesaurus. wordnet: a WordNet on this machine as well. none: only the names given."""

Background: TypeAlias = Literal["nouns", "none"]
"""nouns: about 1,200 common nouns. none: nothing but the names to retain."""


def completed(model: Model, request: Request, *, other_names: OtherNames, background: Background) -> Request:
    """Return the request with other names of what is to be forgotten, and with the background.

    The background is filled where it is empty: common nouns without those that mean what is to be forgotten, or that
    stand in the list to retain. An other name is used if no list claims it, and if the model itself takes it for the
    name: the name's embedding is closer to it than to every retained and background name. The rest would not be
    recognised, and in a model that never learnt the word it stands for something else.

    Raises:
        UnsupportedError: for `wordnet` where no WordNet is installed.
    """
    offered: list[tuple[str, ...]] = []
    for concept in request.forget:
        taken = {key(name) for names in offered for name in names}
        names = _offered(concept, request, other_names)
        offered.append(tuple(name for name in names if key(name) not in taken))
    if background == "nouns" and not request.background:
        named = [name for concept in request.forget for name in concept.names]
        barred = {key(name) for name in (*named, *request.retain, *(name for names in offered for name in names))}
        nouns = tuple(noun for noun in common_nouns(without=named) if key(noun) not in barred)
        request = Request(**{**request.model_dump(), "background": nouns})
    concepts = tuple(
        _with_found(model, request, concept, names) for concept, names in zip(request.forget, offered, strict=True)
    )
    return Request(**{**request.model_dump(), "forget": [concept.model_dump() for concept in concepts]})


def _offered(concept: Concept, request: Request, where: OtherNames) -> tuple[str, ...]:
    """Return the names that a thesaurus has for a concept and that nobody else claims."""
    if where == "none":
        return ()
    sources = [thesaurus.synonyms(name) for name in concept.names]
    if where == "wordnet":
        sources += [wordnet.synonyms(name) for name in concept.names]
    named = (name for one in request.forget for name in one.names)
    claimed = {key(name) for name in (*named, *request.retain, *request.background)}
    found = {key(name): name for names in reversed(sources) for name in reversed(names)}
    ordered = dict.fromkeys(key(name) for names in sources for name in names)
    return tuple(found[form] for form in ordered if form not in claimed)


def _with_found(model: Model, request: Request, concept: Concept, offered: Sequence[str]) -> Concept:
    if not offered:
        return concept
    name, others = unit(name_rows(model, request, [concept.name])), unit(name_rows(model, request, offered))
    held = [unit(name_rows(model, request, names)) for names in (request.retain, request.background) if names]
    nearest = torch.cat(held).matmul(name[0]).max() if held else torch.tensor(-1.0)
    near = (others @ name[0] > nearest).tolist()
    known = tuple(other for other, is_near in zip(offered, near, strict=True) if is_near)
    return Concept(name=concept.name, synonyms=concept.synonyms, found=(*concept.found, *known))
