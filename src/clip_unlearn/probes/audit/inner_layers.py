"""W9: where in the image tower the edit took hold. n images, p width of a block."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.maths.kernels import linear_alignment
from clip_unlearn.probes.audit._blocks import block_means
from clip_unlearn.probes.audit._scene import open_scene, open_support

QUANTILES = (0.025, 0.975)


@final
class InnerLayers(Audit):
    """Alignment of every block of the image tower with the same block of the original, on two sorts of images.

    Linear CKA of what the blocks give, averaged over places in the image: 1 where they give the same up to rotation and
    scale. On images of the forgotten and on as many of other classes. Where the forgotten is as far from the original
    as the rest in all blocks, nothing below the last layer has learned to treat it otherwise, and what the original
    knew of it is still there to be read. 0 is not what to wish for: a model that never saw the class is aligned with
    the original as well, so neither direction is the wished one, and only the distance to such a model counts.

    The interval is that of a bootstrap over images.
    """

    code: ClassVar = "W9"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    images: int = Field(default=100, ge=2)
    """Most images of each sort."""

    draws: int = Field(default=200, ge=20)
    """Draws of the bootstrap."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: some images of the forgotten and as many others through both models."""
        shown = min(size.forgotten, self.images)
        return Work(images=2 * (shown + min(size.support, shown)))

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the alignment of every block on images of the forgotten and of other classes.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if there is no support, or the image tower has no blocks.
        """
        scene = open_scene(self.data, self.split, request, count=self.images)
        support = open_support(self.support, scene, len(scene.images))
        readings: list[Reading] = []
        for sort, images in (("forget", scene.images), ("retain", support)):
            was, now = block_means(before, images), block_means(after, images)
            readings += [self._reading(f"{sort} alignment", block, was[block].rows, now[block].rows) for block in was]
        return tuple(readings)

    def _reading(self, name: str, block: str, was: Tensor, now: Tensor) -> Reading:
        generator, count = torch.Generator().manual_seed(0), len(was)
        rows = torch.randint(count, (self.draws, count), generator=generator)
        drawn = torch.tensor([linear_alignment(was[some], now[some]) for some in rows], dtype=torch.float64)
        low, high = (float(end) for end in drawn.quantile(torch.tensor(QUANTILES, dtype=torch.float64)))
        value = linear_alignment(was, now)
        return Reading(
            name=name,
            value=value,
            low=min(low, value),
            high=max(high, value),
            count=count,
            better="neither",
            of=block,
            interval="bootstrap over images",
        )
