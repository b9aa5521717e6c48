"""Few images of what was forgotten, for attacks that teach it again. m images, D width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import key
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.splits import check_disjoint
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.audit._scene import Scene, Shown, drawn, open_labelled

FoundType = TypeVar("FoundType")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Images to learn from, of all classes that are told apart, none of which is measured."""

    images: ImageSet
    labels: Tensor
    """Place of each image's class among those of the scene: [m]."""

    gone: tuple[int, ...] = ()
    """Places of the classes to forget."""

    def some(self, shots: int, seed: int) -> Tensor:
        """Return the places of so many images of every class, drawn with a seed; all of a class that has fewer."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.labels), generator=generator)
        chosen = [order[self.labels[order] == label][:shots] for label in sorted(set(self.labels.tolist()))]
        return torch.cat(chosen)


def open_examples(where: str, scene: Scene, *, shots: int, most: int) -> Examples:
    """Return images to learn from: those of the classes to forget, and so many of each other class at most.

    Raises:
        UndefinedError: if there are none, or fewer than `shots` of a class to forget.
        DataError: if they have no labels, or share an image with those that are measured.
    """
    images = open_labelled(where, "images")
    places = {key(name): place for place, name in enumerate(scene.classes)}
    groups: dict[int, list[int]] = {}
    for row, label in enumerate(images.labels):
        if (place := places.get(key(images.classes[label]))) is not None:
            groups.setdefault(place, []).append(row)
    for concept in scene.request.forget:
        found = len(groups.get(places[key(concept.name)], ()))
        if found < shots:
            raise UndefinedError(f"it learns from {shots} images of '{concept.name}', and {where} has {found}")
    rows = [row for own in groups.values() for row in drawn(own, most, scene.request.seed)]
    owners = {row: place for place, own in groups.items() for row in own}
    check_disjoint(support=images.take(rows), measured=scene.images)
    gone = tuple(places[key(name)] for name in scene.request.forget_names)
    return Examples(images=images.take(rows), labels=torch.tensor([owners[row] for row in rows]), gone=gone)


def looking(size: Size, *, most: int) -> Work:
    """Return how much it takes to embed the examples, of so many of each class at most.

    Where that is all of them, they are the same for every attack, and kept for those that come later.
    """
    if size.support <= size.classes * most:
        return Work(support=size.image_towers * size.support)
    return Work(images=size.image_towers * size.classes * most)


def embedded(model: Model, examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the embeddings of the examples that could be read, and their classes: [m, d], [m]."""

    def embed(images: ImageSet) -> Shown:
        found = embed_images(model, images)
        return Shown(rows=found.vectors.double(), kept=found.kept)

    shown = in_parts(examples, embed)
    return shown.rows, examples.labels[list(shown.kept)]


def of_both(find: Callable[[Model], FoundType], before: Model, after: Model) -> tuple[FoundType, FoundType]:
    """Return what is found of two models, once where they are one."""
    was = find(before)
    return was, was if after is before else find(after)


def in_parts(examples: Examples, embed: Callable[[ImageSet], Shown]) -> Shown:
    """Return what is made of the examples that could be read, with their places among all.

    Those of the classes to forget and those of all others are embedded apart: whichever class is asked about, the
    others are the same images, and kept.
    """
    asked = torch.isin(examples.labels, torch.tensor(examples.gone))
    rows, read = [], []
    for part in (asked, ~asked):
        if places := part.nonzero().flatten().tolist():
            shown = embed(examples.images.take(places))
            rows.append(shown.rows)
            read += [places[place] for place in shown.kept]
    order = sorted(range(len(read)), key=read.__getitem__)
    return Shown(rows=torch.cat(rows)[order], kept=tuple(read[place] for place in order))
