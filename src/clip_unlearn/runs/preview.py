"""Which retained classes an edit would move, and by how much, without writing anything. k names, n pictures."""

from dataclasses import replace
from functools import partial
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Reading, Setting, Source
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.scores import class_means
from clip_unlearn.maths.vectors import unit
from clip_unlearn.runs.budget import resolve
from clip_unlearn.runs.plan import Plan, plan
from clip_unlearn.runs.predict import Scene, edited_rows
from clip_unlearn.runs.recipe import Recipe

FEWEST: Final = 3
"""Least number of classes that a rank correlation is made of."""


@final
class Move(Config):
    """How far one retained class moves. Margins: cosine with its own name less that with the best other name."""

    name: str
    before: float
    """Margin of the name's own embedding, as if it were a picture, before the edit."""

    after: float
    """The same after the edit: the embedding mapped as pictures are, the names as names are."""

    predicted: float
    """After minus before."""

    pictures: int = 0
    """How many pictures of the class were measured."""

    measured: float | None = None
    """Mean change of the margin over these pictures."""

    accuracy: float | None = None
    """Change of their accuracy, all names listed and to be forgotten to choose from."""


@final
class Agreement(Config):
    """How well the prediction orders the classes."""

    value: float
    """Spearman's rank correlation of predicted and measured change of the margin, in [-1, 1]."""

    p_value: float
    """Two-sided probability of one as large where there is none."""

    count: int
    """Classes with pictures."""


@final
class Preview(Config):
    """What an edit would do, and what it was made from."""

    model: Source
    method: str
    settings: dict[str, Setting]
    """All settings, those that a rule or a budget chose among them."""

    forget: tuple[Concept, ...]
    """What is forgotten: names given, and other names found."""

    retained: int
    """Number of names to retain."""

    background: int
    """Number of names of the rest of the world."""

    reason: str = ""
    """Why nothing would change, where that is so."""

    moves: tuple[Move, ...]
    """Retained classes, those that move most first."""

    data: Source | None = None
    """The pictures that were measured on."""

    agreement: Agreement | None = None
    """How well prediction and measurement agree; None without pictures of 3 classes, or where one of the two is the
    same for all."""

    readings: tuple[Reading, ...] = ()
    """The prediction that chose a setting within a budget."""


def preview(recipe: Recipe, *, model: Model | None = None) -> Preview:
    """Return which retained classes the edit of a recipe would move; nothing is written but caches.

    Listed are the names to retain, or the background where there are none, and all classes of the data. Each stands in
    for its own pictures: the picture of a class is its name's unit embedding. That is crude: real pictures lie farther
    from every name, and an edit that holds the names moves them otherwise, mostly less. With data the same margins are
    measured on the pictures, and the rank correlation says how far the prediction can be trusted.

    Raises:
        InputError: if anything in the recipe is not usable.
        UnsupportedError: if there is no name to list, or the edit is no linear map of image embeddings.
    """
    prepared = plan(recipe, model=model)
    method, readings = resolve(prepared)
    method = method.settled(prepared.model, prepared.request)
    patch = method.forget(prepared.model, prepared.request)
    moves = _moves(*_scenes(prepared), patch)
    images, base = prepared.images, prepared.model.source
    return Preview(
        model=Source(where=base.where, revision=base.revision, digest=prepared.model.fingerprint),
        method=recipe.method.name,
        settings=method.model_dump(mode="json"),
        forget=prepared.request.forget,
        retained=len(prepared.request.retain),
        background=len(prepared.request.background),
        reason=patch.reason,
        moves=tuple(sorted(moves, key=lambda move: -abs(move.predicted))),
        data=None if images is None else Source(where=images.where, digest=images.digest, count=len(images)),
        agreement=_agreement(moves),
        readings=readings,
    )


def _names(request: Request, images: ImageSet | None) -> tuple[str, ...]:
    """Return the names to list: those to retain or the background, then further classes of the data."""
    listed = {key(name): name for name in request.retain or request.background}
    lost = {key(name) for concept in request.forget for name in concept.names}
    for name in () if images is None else images.classes:
        if key(name) not in lost:
            listed.setdefault(key(name), name)
    if not listed:
        raise UnsupportedError("There is no name to list. Give --retain NAMES, --background nouns, or --data.")
    return tuple(listed.values())


def _scenes(prepared: Plan) -> tuple[Scene, Scene | None]:
    """Return one imagined picture of every name to list, and the real pictures of those that the data shows."""
    model, request, images = prepared.model, prepared.request, prepared.images
    listed = _names(request, images)
    names = (*listed, *(name for concept in request.forget for name in concept.names))
    pictures = unit(edited_rows(model, request, names))[: len(listed)]
    imagined = Scene(
        model=model,
        request=request,
        names=names,
        pictures=pictures,
        labels=torch.arange(len(listed)),
        told=f"{len(listed)} names",
        sized=False,
    )
    real = None if images is None else _real(imagined, len(listed), images)
    if real is None:
        return imagined, None
    length = real.pictures.norm(dim=1).mean()
    return replace(imagined, pictures=length * pictures, sized=True), real


def _real(imagined: Scene, listed: int, images: ImageSet) -> Scene | None:
    """Return the pictures of listed classes, with the same names to choose from; None where there are none."""
    embedded = embed_images(imagined.model, images, progress=partial(report, "embed"))
    places = {key(name): place for place, name in enumerate(imagined.names[:listed])}
    labels = torch.tensor([places.get(key(images.classes[images.labels[index]]), -1) for index in embedded.kept])
    shown = labels >= 0
    if not bool(shown.any()):
        return None

    def again(edited: Model) -> Tensor:
        return embed_images(edited, images, progress=partial(report, "embed")).vectors[shown]

    return replace(
        imagined, pictures=embedded.vectors[shown], labels=labels[shown], told=images.where, again=again, sized=True
    )


def _moves(imagined: Scene, real: Scene | None, patch: Patch) -> tuple[Move, ...]:
    before, after = imagined.margins.tolist(), imagined.margins_after(patch).tolist()
    moves = [
        Move(name=name, before=was, after=now, predicted=now - was)
        for name, was, now in zip(imagined.names, before, after, strict=False)
    ]
    if real is None:
        return tuple(moves)
    was, now = real.margins, real.margins_after(patch)
    changes = torch.stack([now - was, (now > 0).float() - (was > 0).float()], dim=1).double()
    means = class_means(changes, real.labels, len(moves)).tolist()
    counts = torch.bincount(real.labels, minlength=len(moves)).tolist()
    return tuple(
        move.model_copy(update={"pictures": count, "measured": mean[0], "accuracy": mean[1]}) if count else move
        for move, count, mean in zip(moves, counts, means, strict=True)
    )


def _agreement(moves: tuple[Move, ...]) -> Agreement | None:
    pairs = [(move.predicted, move.measured) for move in moves if move.measured is not None]
    predicted, measured = [first for first, _ in pairs], [second for _, second in pairs]
    if len(pairs) < FEWEST or len(set(predicted)) == 1 or len(set(measured)) == 1:
        return None
    from scipy import stats

    found = stats.spearmanr(predicted, measured)
    return Agreement(value=float(found.statistic), p_value=float(found.pvalue), count=len(pairs))
