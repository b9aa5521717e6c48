"""Search by sentence and by image, for what is to be forgotten and for what is to be retained."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import parts, shares
from clip_unlearn.core.record import Better, Reading
from clip_unlearn.core.request import Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.mentions import mentioned
from clip_unlearn.data.open import open_data
from clip_unlearn.data.splits import check_disjoint
from clip_unlearn.data.texts import embed_texts
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.retrieval import best_ranks
from clip_unlearn.maths.scores import class_means


@final
class Retrieval(Probe):
    """Recall@1, @5 and @10 from image to caption and from caption to image, among all images and captions of the data.

    Image to text: one of the image's captions is among the first k. Text to image: the share of an image's captions
    that find it among the first k; captions of one image are no independent items, so intervals are over images.
    Captions of the same wording match all their images. An image without captions is in the way of others, and counted
    on neither side. An image is to be forgotten when its class is, or, without classes, when one of its captions names
    a concept; all others are to be retained.
    """

    needs_images: ClassVar = True
    needs_labels: ClassVar = False

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    places: tuple[int, ...] = (1, 5, 10)
    """The k of recall@k."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return recall of both directions on both sides, before, after and paired.

        Raises:
            UndefinedError: if the data has no captions.
            DataError: if it shares an image with the evidence of the request.
        """
        images = _captioned(self.data, self.split, request)
        kept = embed_images(before, images).kept
        gone = _forgotten(images, request, self.other_senses)[list(kept)]
        first, second = _ranks(before, images, kept), _ranks(after, images, kept)
        said = torch.isin(torch.arange(len(gone)), first[2])
        sides: tuple[tuple[str, Tensor, Better], ...] = (
            ("forget", gone & said, "low"),
            ("retain", ~gone & said, "high"),
        )
        readings: list[Reading] = []
        for side, chosen, better in sides:
            if bool(chosen.any()):
                for k in self.places:
                    readings += _readings(f"{side} %s recall@{k}", k, chosen, first, second, better)
        return tuple(readings)


Ranks = tuple[Tensor, Tensor, Tensor]
"""Places of the best caption of each image [n], of the best image of each caption [m], and the caption's image [m]."""


def _captioned(where: str, split: Literal["all", "stop", "select", "audit"], request: Request) -> ImageSet:
    images = open_data(where, split=split)
    if not len(images.captions):
        raise UndefinedError(f"{images.where} has no captions to search by")
    if request.evidence is not None:
        check_disjoint(evidence=open_data(request.evidence.where), measured=images)
    return images


def _forgotten(images: ImageSet, request: Request, other_senses: Sequence[str]) -> Tensor:
    if not images.labels:
        return mentioned(images, request, other_senses)
    asked = torch.tensor([images.class_index(name) for name in request.forget_names])
    return torch.isin(torch.tensor(images.labels), asked)


def _ranks(model: Model, images: ImageSet, kept: Sequence[int]) -> Ranks:
    captions = [images.captions[row] for row in kept]
    sentences = [one for some in captions for one in some]
    owners = torch.tensor([place for place, some in enumerate(captions) for _ in some])
    wordings = {one: place for place, one in enumerate(dict.fromkeys(sentences))}
    said = torch.tensor([wordings[one] for one in sentences])
    has = torch.zeros(len(kept), len(wordings), dtype=torch.bool)
    has[owners, said] = True
    matches = has[:, said]
    pictures, texts = embed_images(model, images).vectors, embed_texts(model, sentences).cpu()
    return best_ranks(pictures, texts, matches), best_ranks(texts, pictures, matches.T), owners


def _readings(name: str, k: int, chosen: Tensor, first: Ranks, second: Ranks, better: Better) -> tuple[Reading, ...]:
    found = [
        class_means((texts <= k).double().unsqueeze(1), owners, len(chosen))[chosen, 0]
        for _, texts, owners in (first, second)
    ]
    return (
        *shares(name % "image-to-text", first[0][chosen] <= k, second[0][chosen] <= k, better),
        *parts(name % "text-to-image", found[0], found[1], better),
    )
