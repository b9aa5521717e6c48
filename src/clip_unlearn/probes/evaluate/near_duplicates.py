"""Images to measure on that are nearly the same as images that were learned from."""

from typing import ClassVar, Final, Literal, final

import torch
from PIL.Image import Image, Resampling
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import share
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import measured_images
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.vectors import unit

GRID: Final = (9, 8)
"""Width and height that a picture is shrunk to: 8 x 8 differences of neighbours."""


@final
class NearDuplicates(Probe):
    """Share of the measured images of the forgotten that have a near copy among those that were learned from.

    Equal files are refused everywhere; a copy of another size or compression is not found that way. Two images are
    near copies where their cosine by the original is high and their difference hashes, whether each of 8 x 8 spots is
    brighter than its right neighbour, differ in few bits. Looked through are the evidence of the request and the images
    that attacks learn from. What is measured on near copies tells less; the closest pairs are listed.
    """

    needs_labels: ClassVar[bool] = True

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    support: str = ""
    """Data source with the images that attacks learn from."""

    cosine: float = Field(default=0.98, gt=0, le=1)
    """Least cosine of near copies."""

    bits: int = Field(default=10, ge=0, le=64)
    """Most bits of 64 in which near copies differ."""

    listed: int = Field(default=20, ge=0)
    """Most pairs that are listed."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: all images to learn from, and as many of evidence, by the original."""
        return Work(images=2 * size.support)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the share of images with a near copy, and the closest pairs with their cosine.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if nothing was learned from images.
        """
        images = measured_images(self.data, self.split, request)
        gone = {images.class_index(name) for name in request.forget_names}
        own = images.take([place for place, label in enumerate(images.labels) if label in gone])
        learned = [where for where in (request.evidence.where if request.evidence else "", self.support) if where]
        if not learned or not len(own):
            raise UndefinedError("no images were learned from, so none can be near copies of those measured")
        pairs = {pair for where in learned for pair in self._pairs(before, own, open_data(where))}
        copied = {first for _, first, _ in pairs}
        hits = torch.tensor([key in copied for key in own.keys])
        closest = sorted(pairs, reverse=True)[: self.listed]
        return (share("near copies", hits, "low"), *(_listed(*pair) for pair in closest))

    def _pairs(self, model: Model, own: ImageSet, others: ImageSet) -> set[tuple[float, str, str]]:
        """Return the near copies, as the cosine and both keys."""
        first, second = embed_images(model, own), embed_images(model, others)
        cosines = unit(first.vectors.double()) @ unit(second.vectors.double()).T
        found = set()
        hashes: dict[tuple[int, int], Tensor] = {}
        for row, column in (cosines >= self.cosine).nonzero().tolist():
            places = first.kept[row], second.kept[column]
            for side, (images, place) in enumerate(zip((own, others), places, strict=True)):
                if (side, place) not in hashes:
                    hashes[side, place] = difference_hash(images.picture(place))
            if int((hashes[0, places[0]] != hashes[1, places[1]]).sum()) <= self.bits:
                found.add(
                    (float(cosines[row, column]), own.keys[places[0]], f"{others.where}: {others.keys[places[1]]}")
                )
        return found


def difference_hash(picture: Image) -> Tensor:
    """Return whether each of 8 x 8 spots of a picture is brighter than its right neighbour: [64] of bool."""
    small = picture.convert("L").resize(GRID, Resampling.BOX)
    grey = torch.tensor(list(small.tobytes()), dtype=torch.int32).view(GRID[1], GRID[0])
    return (grey[:, :-1] > grey[:, 1:]).flatten()


def _listed(cosine: float, first: str, second: str) -> Reading:
    fields = {"value": cosine, "low": cosine, "high": cosine, "count": 2}
    return Reading(name="cosine of near copies", better="low", of=f"{first} ~ {second}", interval="exact", **fields)
