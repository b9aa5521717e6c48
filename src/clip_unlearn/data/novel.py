"""Classes that a model does not know, each in the place of what it was to forget. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.data.splits import split
from clip_unlearn.errors import DataError

FEWEST: Final = 5
"""Least number of classes that a model does not know from which is said what an attack teaches of itself."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NovelClass:
    """One class that a model does not know, with all that an attack on a forgotten one is given."""

    name: str
    measured: ImageSet
    """Images of it alone; the classes are those told apart, with it in the place of the forgotten."""

    support: ImageSet
    """Images to learn from: of the other classes and of its own, none of which is measured."""

    def request(self, asked: Request) -> Request:
        """Return a request with this class in the place of what is to be forgotten, and of no common noun."""
        background = tuple(noun for noun in asked.background if key(noun) != key(self.name))
        forget = (Concept(name=self.name).model_dump(),)
        return Request(**{**asked.model_dump(), "forget": forget, "background": background})


def open_novel(where: str, measured: ImageSet, support: ImageSet, request: Request) -> tuple[NovelClass, ...]:
    """Return the classes of a data source as novel ones: half of their images to measure, the others to learn from.

    Raises:
        DataError: if it or the support has no labels, there are fewer than `FEWEST`, or one is told apart already.
    """
    images = open_data(where)
    if not support.labels:
        raise DataError(f"{support.where} has no class labels for an attack to learn from. Give labelled images.")
    shown = sorted(set(images.labels))
    if len(shown) < FEWEST:
        raise DataError(
            f"{where} has images of {len(shown)} classes. Give {FEWEST} or more that the model does not know."
        )
    names = (*measured.classes, *support.classes, *request.forget_names, *request.retain)
    known = {key(name) for name in names}
    tested = split(images, "audit")
    for index in shown:
        name = f"Class '{images.classes[index]}' of {where}"
        if key(images.classes[index]) in known:
            raise DataError(f"{name} is told apart already. Give classes that are not.")
        if index not in tested.labels:
            raise DataError(f"{name} has no image of its own. Give classes that share none.")
    apart = set(tested.keys)
    taught = images.take(place for place, each in enumerate(images.keys) if each not in apart)
    barred = {key(name) for concept in request.forget for name in concept.names}
    others = support.take(
        place for place, label in enumerate(support.labels) if key(support.classes[label]) not in barred
    )
    asked = {key(name) for name in request.forget_names}
    classes = tuple(name for name in measured.classes if key(name) not in asked)
    return tuple(_novel(_of(tested, index), _of(taught, index), others, classes) for index in shown)


def _novel(tested: ImageSet, taught: ImageSet, others: ImageSet, classes: tuple[str, ...]) -> NovelClass:
    name = tested.classes[tested.labels[0]]
    labels = (len(classes),) * len(tested)
    return NovelClass(
        name=name,
        measured=replace(tested, where=f"{tested.where}: {name}", classes=(*classes, name), labels=labels),
        support=_joined(others, taught, name),
    )


def _of(images: ImageSet, index: int) -> ImageSet:
    """Return the images of one class, with nothing known about them but that."""
    own = images.take(place for place, label in enumerate(images.labels) if label == index)
    return replace(own, captions=(), domains=())


def _joined(known: ImageSet, novel: ImageSet, name: str) -> ImageSet:
    """Return images of known classes and of one more."""
    parts: Sequence[tuple[str, ImageSet]] = (("known", known), ("novel", novel))
    places = [(images, place) for _, images in parts for place in range(len(images))]
    return ImageSet(
        where=f"{known.where} with {novel.where}: {name}",
        keys=tuple(f"{part}: {each}" for part, images in parts for each in images.keys),
        classes=(*known.classes, name),
        labels=(*known.labels, *(len(known.classes),) * len(novel)),
        picture=lambda index: places[index][0].picture(places[index][1]),
        content=lambda index: places[index][0].contents[places[index][1]],
    )
