"""The embedded rendered world as an ordinary set of images."""

from typing import Final

from clip_unlearn.data.images import ImageSet, OnDemand
from clip_unlearn.errors import UnknownNameError, nearest
from clip_unlearn.files import digest
from clip_unlearn.sandbox import sentences, world
from clip_unlearn.sandbox.classes import CLASS_NAMES, DOMAINS

NAME: Final = "sandbox"
"""How a user names the world; `sandbox:photo` is one domain of it."""

PICTURES: Final = 34
"""Pictures of every class in every domain: 102 per class over three domains."""

CAPTIONS: Final = 2
"""Captions of every picture."""


def open_world(where: str, *, stream: str, pictures: int = PICTURES) -> ImageSet:
    """Return the first pictures of every class and domain from one of the world's streams of pictures.

    Ordered by domain, class and index; key `domain/class/index`. The content digest is that of the world's sources and
    the picture's place in it, so nothing is drawn before it is asked for.

    Raises:
        UnknownNameError: if `where` names a domain that the world does not have.
    """
    domain = where.partition(":")[2]
    if domain and domain not in DOMAINS:
        options = ", ".join(DOMAINS)
        raise UnknownNameError(f"The sandbox has no domain '{domain}'.{nearest(domain, DOMAINS)} Domains: {options}.")
    places = [
        (name, each, index)
        for each in ((domain,) if domain else DOMAINS)
        for name in CLASS_NAMES
        for index in range(pictures)
    ]

    def draw(index: int) -> world.Picture:
        name, each, number = places[index]
        return world.render(name, each, stream, number)

    def content(index: int) -> str:
        name, each, number = places[index]
        return digest.of_json([world.digest(), name, each, stream, number])

    return ImageSet(
        where=where,
        keys=tuple(f"{each}/{name}/{number:04d}" for name, each, number in places),
        classes=CLASS_NAMES,
        labels=tuple(CLASS_NAMES.index(name) for name, _, _ in places),
        captions=OnDemand(length=len(places), make=lambda index: sentences.captions(draw(index), CAPTIONS)),
        domains=tuple(each for _, each, _ in places),
        picture=lambda index: world.as_image(draw(index)),
        content=content,
    )
