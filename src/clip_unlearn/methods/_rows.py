"""Name embeddings that closed forms move and hold. d embedding width, m names to forget, n names to hold."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.data import texts
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.prompts import thesaurus

Pool: TypeAlias = Literal["concept", "name"]

ALIKE = 0.97
"""Cosine, about the mean name, from which on a model does not tell two names apart.

In the embedded model synonyms are above .99 and the nearest other classes below .6; in trained models whose text tower
knows language no two of the common nouns that mean different things are above .96."""


SAME = 1e-6
"""Distance of unit rows under which they are the same to the model: two names that tokenise alike."""


def name_rows(model: Model, request: Request, names: Sequence[str]) -> Tensor:
    """Return one row per name, the mean of its unit embeddings over the templates, in float64. [len(names), d]."""
    return texts.name_rows(model, request, names, table=thesaurus.vocabulary())


def concept_rows(model: Model, request: Request, pool: Pool) -> Tensor:
    """Return the unit rows of what to forget: one per concept, the mean over its names, or one per name. [m, d]."""
    groups = [unit(name_rows(model, request, concept.names)) for concept in request.forget]
    if pool == "name":
        return torch.cat(groups)
    return unit(torch.stack([rows.mean(0) for rows in groups]))


def held_rows(
    model: Model, request: Request, moved: Tensor, retain_weight: float, background_weight: float
) -> tuple[Tensor, Tensor]:
    """Return the unit rows of what to hold, [n, d], and the weight of each, [n].

    All names to retain, and those of the background that the model tells apart from what is moved: a cosine about the
    mean of all names under 0.97. A name that the model takes for the forgotten one would hold that in place.
    """
    retained = unit(name_rows(model, request, request.retain))
    background = unit(name_rows(model, request, request.background))
    if len(background) and len(moved):
        centre = torch.cat([rows for rows in (retained, background) if len(rows)]).mean(0)
        alike = unit(background - centre) @ unit(moved - centre).T
        background = background[alike.amax(dim=1) < ALIKE]
    groups = [(rows, weight) for rows, weight in ((retained, retain_weight), (background, background_weight))]
    kept = [(rows, weight) for rows, weight in groups if len(rows)]
    if not kept:
        return moved.new_zeros((0, moved.shape[1])), moved.new_zeros(0)
    weights = torch.cat([torch.full((len(rows),), weight, dtype=torch.float64) for rows, weight in kept])
    return torch.cat([rows for rows, _ in kept]), weights.to(moved.device)


def without_alike(model: Model, request: Request) -> Request:
    """Return the request without the nouns of the background that the model takes for a name to forget.

    Those have a cosine of 0.97 or more with it, about the mean noun: no picture would be told apart from them.
    """
    if not request.background:
        return request
    asked = unit(name_rows(model, request, [name for concept in request.forget for name in concept.names]))
    nouns = unit(name_rows(model, request, request.background))
    centre = nouns.mean(0)
    nearest = (unit(nouns - centre) @ unit(asked - centre).T).amax(1).tolist()
    kept = [noun for noun, cosine in zip(request.background, nearest, strict=True) if cosine < ALIKE]
    return Request(**{**request.model_dump(), "background": kept})


def neutral_direction(model: Model, request: Request, destination: str) -> Tensor:
    """Return the unit vector that stands for no class in particular, [d].

    "retain": the mean of the names to retain, or of the background where there are none; "empty": the empty sentence;
    anything else is a sentence of the user's. Without any names at all the empty sentence stands in for their mean.
    """
    names = request.retain or request.background
    if destination == "retain" and names:
        return unit(unit(name_rows(model, request, names)).mean(0))
    sentence = "" if destination in ("retain", "empty") else destination
    with torch.no_grad():
        return unit(model.texts([sentence]).double())[0]


def check_apart(moved: Tensor, retained: Tensor, names: Sequence[str]) -> None:
    """Check that nothing to forget equals a retained name, or is made up of fewer retained names than d.

    Raises:
        UnsupportedError: naming the retained names that stand in the way.
    """
    if not len(retained):
        return
    alike = moved @ retained.T
    parts = alike if len(retained) >= moved.shape[1] else moved @ torch.linalg.pinv(retained)
    for row, own, weights in zip(moved, alike, parts, strict=True):
        equal = float(own.max()) > 1 - SAME
        inside = len(retained) < len(row) and float((row - weights @ retained).norm()) < SAME
        if equal or inside:
            share = (own if equal else weights).abs()
            order = share.argsort(descending=True).tolist()[: 1 if equal else 3]
            shown = ", ".join(f"'{names[place]}'" for place in order if share[place] >= SAME * share.max())
            raise UnsupportedError(
                f"What is to be forgotten cannot be told apart in this model from what is to be retained: {shown}. "
                "Remove that from the names to retain, or use another name."
            )
