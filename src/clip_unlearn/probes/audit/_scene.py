"""What an attack works with: images of the forgotten, images of other classes, a model that is known to hold both.

Dimensions: n images of the forgotten, m images of other classes, k classes, D feature width, d embedding width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias, final

import torch
from torch import Tensor

from clip_unlearn.core.attacks import UNATTACKED, WORST
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import share, worst
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Request, key
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import class_texts, forget_indices, measured_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import Split, open_data
from clip_unlearn.data.prepared import pixels_of
from clip_unlearn.data.splits import check_disjoint
from clip_unlearn.errors import DataError, UndefinedError
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.maths.scores import cosines, ranks

BATCH: Final = 25
"""Images that a model takes at a time."""

HELD: Final = 100.0
"""Weight of the rows that stay where they are in the control."""

Forms: TypeAlias = Mapping[str, Tensor]
"""Which of the n images are named right, by the form of the attack."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What a model makes of the images that could be read."""

    rows: Tensor
    """Embeddings [n, d], or features before the last layer [n, D]."""

    kept: tuple[int, ...]
    """The places of the n images."""

    def labels(self, images: ImageSet) -> list[int]:
        """Return the class of every row."""
        return [images.labels[place] for place in self.kept]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Images of the classes to forget, and the names they are told apart by."""

    request: Request
    images: ImageSet
    """Of the classes to forget alone."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names to choose from, those to forget among them."""
        return self.images.classes

    def texts(self, model: Model) -> Tensor:
        """Return the classifier rows of a model: [k, d]."""
        return class_texts(model, self.request, self.classes)

    def right(self, embeddings: Tensor, texts: Tensor, kept: tuple[int, ...]) -> Tensor:
        """Return which images are named right: [n, d], [k, d] -> [n]; `kept` are the places of the n images."""
        labels = torch.tensor([self.images.labels[place] for place in kept], device=embeddings.device)
        return (ranks(cosines(embeddings, texts.to(embeddings)), labels) == 1).cpu()

    @torch.no_grad()
    def shown(self, model: Model) -> Shown:
        """Return the embeddings of the images by a model, without leaving anything in the cache."""
        pixels, kept = self._pixels(model)
        parts = [model.images(part.to(model.device)) for part in torch.split(pixels, BATCH)]
        return Shown(rows=torch.cat(parts), kept=kept)

    def hits(self, model: Model) -> Tensor:
        """Return which images a model names right: [n]."""
        shown = self.shown(model)
        return self.right(shown.rows, self.texts(model), shown.kept)

    def _pixels(self, model: Model) -> tuple[Tensor, tuple[int, ...]]:
        known = self._prepared
        if model.adapter.preparation not in known:
            known[model.adapter.preparation] = pixels_of(self.images, model.adapter.prepare, range(len(self.images)))
        return known[model.adapter.preparation]

    @cached_property
    def _prepared(self) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
        return {}


def open_scene(where: str, split: Split, request: Request, *, count: int | None = None) -> Scene:
    """Return the images of the classes to forget, so many of them at most, drawn with the request's seed.

    Raises:
        DataError: if the data has no labels or lacks a class to forget.
        UndefinedError: if none of its images shows one.
    """
    images = measured_images(where, split, request)
    asked = set(forget_indices(images, request))
    rows = [place for place, label in enumerate(images.labels) if label in asked]
    if not rows:
        raise UndefinedError(f"{images.where} has no image of {', '.join(request.forget_names)}")
    return Scene(request=request, images=images.take(drawn(rows, count, request.seed)))


def open_labelled(where: str, what: str) -> ImageSet:
    """Return labelled images to learn from; `what` they are called.

    Raises:
        UndefinedError: if none were given.
        DataError: if they have no labels.
    """
    if not where:
        raise UndefinedError(f"it learns from {what}, and none were given")
    images = open_data(where)
    if not images.labels:
        raise DataError(f"{where} has no class labels for an audit to learn from. Give labelled images.")
    return images


def open_support(where: str, scene: Scene, count: int) -> ImageSet:
    """Return so many images of other classes, drawn with the request's seed, none of which is measured.

    Raises:
        UndefinedError: if there are none.
        DataError: if they have no labels, or share an image with those that are measured.
    """
    images = open_labelled(where, "images of other classes")
    barred = {key(name) for concept in scene.request.forget for name in concept.names}
    gone = {index for index, name in enumerate(images.classes) if key(name) in barred}
    rows = [place for place, label in enumerate(images.labels) if label not in gone]
    if not rows:
        raise UndefinedError(f"{where} has no image of another class")
    chosen = images.take(drawn(rows, count, scene.request.seed))
    check_disjoint(support=chosen, measured=scene.images)
    return chosen


def drawn(rows: Sequence[int], count: int | None, seed: int) -> list[int]:
    """Return so many of the rows at most, drawn with a seed, in their order."""
    if count is None or len(rows) <= count:
        return list(rows)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    return [rows[place] for place in sorted(order[:count])]


@torch.no_grad()
def hidden(model: Model, request: Request, tower: TowerName) -> Model:
    """Return the model with the names to forget taken out of the last layer of a tower: it holds them as before.

    The rows of the names are moved and those of all others stay where they are: `ridge_edit`, exactly for the names. In
    the image tower to the mean row of the retained names, which never has the highest score of all; in the text tower,
    where the length of a row does not count, between the two retained names that are least like it. It is gentle on
    purpose: an edit that goes further is harder to undo, which would make the control stricter than what is attacked.
    """
    names = [name for concept in request.forget for name in concept.names]
    rows, kept, others = (
        class_texts(model, request, some).double()
        for some in (names, request.retain or request.background, (*request.retain, *request.background))
    )
    goals = torch.zeros_like(rows)
    if len(kept):
        goals = kept.mean(0).expand_as(rows) if tower == "image" else _between_unlike(rows, kept)
    edit = ridge_edit(rows, goals, others, forget_weight=math.inf, retain_weight=HELD)
    output = edit.on_scores() if tower == "image" else edit.on_vectors()
    return Patch(outputs={tower: output}).folded(model).apply(model)


def hiding(size: Size) -> Work:
    """Return about how much it takes to make a control and to look at both models without the attack."""
    return Work(images=2 * size.forgotten, names=size.names + size.background * size.templates)


def _between_unlike(rows: Tensor, kept: Tensor) -> Tensor:
    """Return the mean of the two rows of `kept` that each row is least like: [n, d], [m, d] -> [n, d]."""
    unlike = (rows @ kept.T).topk(min(2, len(kept)), largest=False).indices
    return kept[unlike].mean(1)


def attacked(name: str, scene: Scene, before: Model, control: Model, forms: tuple[Forms, Forms]) -> Readings:
    """Return the readings of an attack and its worst form; `forms` are those of the control and of the edited model."""
    readings: list[Reading] = [
        share(f"{WORST}{name}", scene.hits(before), "low", subject="before", of=UNATTACKED),
        share(name, scene.hits(control), "low", subject="control", of=UNATTACKED),
    ]
    subjects: tuple[Subject, Subject] = ("control", "after")
    for subject, found in zip(subjects, forms, strict=True):
        readings += [share(name, right, "low", subject=subject, of=form) for form, right in found.items()]
        readings.append(worst(f"{WORST}{name}", found, subject=subject, what="forms of the attack"))
    return tuple(readings)
