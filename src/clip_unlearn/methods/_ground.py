"""From a request to what is smoothed, what is held, and what is examined. n pictures, d width."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.data.prepared import pixels_of
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.vectors import mean_unit_rows, unit
from clip_unlearn.methods._examination import Examination
from clip_unlearn.methods._lipschitz import perturb
from clip_unlearn.methods._sides import Names, Pictures, embedded
from clip_unlearn.synthesis.album import attempt_album
from clip_unlearn.synthesis.ascend import Ascent

DEVIATIONS: Final = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
"""Deviations of the noise to choose from, in normalised pixels."""

LOST: Final = 0.1
"""Share of perturbed pictures that may still be recognised where the noise is enough."""

SENTENCES: Final = ("a photo of a {}.", "a picture of a {}.", "{}", "a close-up of a {}.")
"""What a name is learned in; examined are the request's own templates."""

RECOGNISED: Final = 0.5
"""Probability from which a picture that does not climb to the wanted one is good enough."""

NEAR: Final = 32
"""Names to hold that are nearest to the concepts and stand in every step."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How many pictures of what are asked for."""

    learn: int
    stop: int
    held: int
    ascent: Ascent


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Normalised pictures of the concepts and of classes that stay, those to learn from apart from the others."""

    learn: Tensor
    learn_owners: Tensor
    stop: Tensor
    stop_owners: Tensor
    held: Tensor
    kept: Tensor
    shown: Tensor
    """Place of each kept picture's class among the rivals."""


def rivals(request: Request) -> tuple[str, ...]:
    """Return the class names that stay: those to retain, or the background where there are none."""
    return request.retain or request.background


def synthetic(model: Model, request: Request, wish: Wish) -> Material:
    """Return pictures that the model made by itself.

    Raises:
        UnsupportedError: if it makes too few that it recognises.
    """
    stay = rivals(request)
    chosen = _held_names(model, request, wish.held)
    held = _held_pictures(model, request, chosen, wish.ascent)
    own = attempt_album(
        model,
        request,
        request.forget_names,
        count=wish.learn + wish.stop,
        settings=wish.ascent,
        seed=request.seed,
    )
    own = own.recognised(RECOGNISED).checked().accepted_only()
    groups = [own.of(name) for name in request.forget_names]
    for name, some in zip(request.forget_names, groups, strict=True):
        if len(some) < 2:
            raise UnsupportedError(
                f"{len(some)} of {wish.learn + wish.stop} synthetic pictures of '{name}' were recognised, where one is "
                "to learn from and one to examine. Allow more pictures or more steps."
            )
    places = [stay.index(name) for name, some in zip(chosen, held, strict=True) for _ in some]
    shown = torch.tensor(places, dtype=torch.long)
    normalise = model.adapter.pixels.normalise
    rest = torch.cat([*held, own.pixels[:0]])
    return _material(
        [normalise(some).to(model.device) for some in groups], normalise(rest).to(model.device), shown, wish
    )


def real(model: Model, request: Request, wish: Wish) -> Material:
    """Return images of the request's evidence.

    Raises:
        DataError: if they show none of a concept, or fewer than two that can be read.
        UnsupportedError: if there is no other class.
    """
    evidence, stay = request.evidence, rivals(request)
    if evidence is None:
        raise DataError("There are no images to learn from. Give them with --data.")
    if not stay:
        raise UnsupportedError("There is no other class to tell pictures from. Give --retain NAMES.")
    images = open_data(evidence.where)
    generator = torch.Generator().manual_seed(request.seed)
    groups = []
    for name in request.forget_names:
        index = images.class_index(name)
        rows = [row for row, label in enumerate(images.labels) if label == index][: wish.learn + wish.stop]
        pixels, kept = pixels_of(images, model.adapter.prepare, rows) if rows else (None, ())
        if pixels is None or len(kept) < 2:
            raise DataError(f"{images.where} has {len(kept)} images of '{name}' to learn from. Give at least two.")
        groups.append(pixels.to(model.device))
    places = {name: place for place, name in enumerate(stay)}
    known = [row for row, label in enumerate(images.labels) if images.classes[label] in places]
    rows = [known[place] for place in torch.randperm(len(known), generator=generator)[: wish.held].tolist()]
    rest, kept = pixels_of(images, model.adapter.prepare, rows) if rows else (groups[0][:0], ())
    shown = torch.tensor([places[images.classes[images.labels[row]]] for row in kept], dtype=torch.long)
    return _material(groups, rest.to(model.device), shown, wish)


def _material(groups: Sequence[Tensor], rest: Tensor, shown: Tensor, wish: Wish) -> Material:
    """Return the pictures, split: of each concept the last `stop` are held out, of the others every fourth."""
    cuts = [max(1, min(wish.learn, len(some) - min(wish.stop, len(some) // 2))) for some in groups]
    apart = torch.arange(len(rest)) % 4 == 3
    owners = [torch.full((len(some),), place) for place, some in enumerate(groups)]
    pairs = list(zip(groups, owners, cuts, strict=True))
    return Material(
        learn=torch.cat([some[:cut] for some, _, cut in pairs]),
        learn_owners=torch.cat([own[:cut] for _, own, cut in pairs]),
        stop=torch.cat([some[cut:] for some, _, cut in pairs]),
        stop_owners=torch.cat([own[cut:] for _, own, cut in pairs]),
        held=rest[~apart],
        kept=rest[apart],
        shown=shown[apart],
    )


def pictures_side(model: Model, request: Request, material: Material, draws: int, batch: int) -> Pictures:
    """Return the pictures to move, to the embeddings of their perturbed copies, at noise chosen by rule, and to hold.

    The smallest deviation of noise at which a tenth of the copies at most is recognised; the largest where none is
    enough. Perturbed after normalisation, cut to the range of the pictures.
    """
    names = (*request.forget_names, *rivals(request))
    classes = unit(mean_unit_rows(model.texts(request.sentences(names)), len(request.templates)))
    generator = torch.Generator().manual_seed(request.seed)
    pixels = material.learn
    for deviation in DEVIATIONS:
        copies = perturb(pixels, deviation, draws, generator)
        places = torch.stack([embedded(model, copy) for copy in copies])
        known = (places.double() @ classes.T).argmax(2).cpu() == material.learn_owners
        if float(known.float().mean()) <= LOST:
            break
    nearness = 1 / (copies - pixels).flatten(2).norm(dim=2).clamp_min(1e-12)
    return Pictures(
        moving=pixels,
        places=places,
        weights=nearness / nearness.mean(),
        holding=material.held,
        stays=embedded(model, material.held) if len(material.held) else places[0, :0],
        batch=batch,
    )


def names_side(model: Model, request: Request, gone: Sequence[Concept], beyond: float, batch: int) -> Names:
    """Return the sentences to move, and where to, and those to hold.

    A sentence s of a concept goes to unit(n - beyond (t - (n t) n)): t its own embedding and n the mean of the same
    sentence with every name to retain in the concept's place, its perturbed copies.
    """
    names = [name for concept in request.forget for name in concept.names]
    destinations, moved = [], []
    for sentence in SENTENCES:
        copies = model.texts([sentence.replace("{}", name) for name in rivals(request)])
        neutral = unit(unit(copies).mean(0))
        own = unit(model.texts([sentence.replace("{}", name) for name in names]))
        part = own - (own @ neutral).unsqueeze(1) * neutral
        destinations.append(unit(neutral - beyond * part))
        moved += [sentence.replace("{}", name) for name in names]
    pool = [*dict.fromkeys((*request.retain, *request.background, *(name for one in gone for name in one.names)))]
    held = [SENTENCES[0].replace("{}", name) for name in pool]
    rows = unit(model.texts(held))
    order = (
        (rows @ unit(model.texts([SENTENCES[0].replace("{}", name) for name in names])).T)
        .amax(1)
        .argsort(descending=True, stable=True)
    )
    return Names(
        moving=tuple(moved),
        places=torch.cat(destinations),
        holding=tuple(held[place] for place in order.tolist()),
        stays=rows[order],
        near=NEAR,
        batch=batch,
    )


def examination(model: Model, request: Request, material: Material) -> Examination:
    """Return the examination on the pictures held out, by the first of the request's templates."""
    template = request.templates[0]
    return Examination(
        model=model,
        pictures=material.stop,
        owners=material.stop_owners,
        names=tuple(tuple(template.replace("{}", name) for name in concept.names) for concept in request.forget),
        rivals=tuple(template.replace("{}", name) for name in rivals(request)),
        kept=material.kept,
        shown=material.shown,
    )


def _held_pictures(model: Model, request: Request, names: Sequence[str], settings: Ascent) -> list[Tensor]:
    """Return a picture of each name, or none where the model does not recognise it: [1 or 0, 3, h, w] each."""
    if not names:
        return []
    made = attempt_album(model, request, names, count=1, settings=settings, seed=request.seed)
    known = made.recognised(RECOGNISED).accepted_only()
    return [known.of(name) for name in names]


def _held_names(model: Model, request: Request, count: int) -> tuple[str, ...]:
    """Return names that stay, to make pictures of: half the nearest to the concepts, half drawn from the others."""
    stay = rivals(request)
    if not stay or not count:
        return ()
    sentences = [SENTENCES[0].replace("{}", name) for name in (*request.forget_names, *stay)]
    with torch.no_grad():
        rows = unit(model.texts(sentences))
    own, others = rows[: len(request.forget)], rows[len(request.forget) :]
    order = (others @ own.T).amax(1).argsort(descending=True).tolist()
    near, rest = order[: count // 2], order[count // 2 :]
    generator = torch.Generator().manual_seed(request.seed)
    drawn = [rest[place] for place in torch.randperm(len(rest), generator=generator)[: count - len(near)].tolist()]
    return tuple(stay[place] for place in (*near, *drawn))
