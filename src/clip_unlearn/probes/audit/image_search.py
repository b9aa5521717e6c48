"""B8: search images with an image, where no text is asked."""

from typing import ClassVar, Final, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import parts
from clip_unlearn.core.record import Better
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import Answers, answers, forget_indices, measured_images
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.scores import cosines

ROWS: Final = 512
"""Images whose neighbours are looked for together."""


@final
class ImageSearch(Audit):
    """Precision at 10 and average precision when images of a class search all others for their like.

    No text takes part, so an edit of the text side leaves it as it was, and so does most of what only hides a name. A
    model that never saw the class still finds its images alike: only what is above such a model counts, and neither
    direction is the wished one. For images of the classes to forget, and of others, which should stay.
    """

    code: ClassVar = "B8"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    places: int = Field(default=10, ge=1)
    """How many of the nearest images count for the precision."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: nothing beyond the embeddings that every run has."""
        return Work()

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return both precisions on both sides, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if no image of a class to forget has another of its class.
        """
        images = measured_images(self.data, self.split, request)
        first, second = answers(before, images, request), answers(after, images, request)
        gone = torch.isin(first.labels, torch.tensor(forget_indices(images, request)))
        alike = torch.bincount(first.labels, minlength=len(images.classes))[first.labels] > 1
        if not bool((gone & alike).any()):
            raise UndefinedError("no image of a class to forget has another one of its class to find")
        sides: tuple[tuple[str, Tensor, Better], ...] = (("forget", gone, "neither"), ("retain", ~gone, "high"))
        was, now = _precisions(first, self.places), _precisions(second, self.places)
        return tuple(
            reading
            for side, rows, better in sides
            if bool((rows & alike).any())
            for name, old, new in zip((f"precision at {self.places}", "average precision"), was, now, strict=True)
            for reading in parts(f"{side} image search {name}", old[rows & alike], new[rows & alike], better)
        )


def _precisions(known: Answers, places: int) -> tuple[Tensor, Tensor]:
    """Return, for every image, the share of its class among its nearest, and the average precision over all: [n] x 2.

    Average precision: the mean over the images of its class of the precision at the place of each.
    """
    parts = [_part(known, rows, places) for rows in torch.split(torch.arange(len(known.labels)), ROWS)]
    near, average = (torch.cat(each) for each in zip(*parts, strict=True))
    return near, average


def _part(known: Answers, rows: Tensor, places: int) -> tuple[Tensor, Tensor]:
    """Return both of some images: a table of all with all does not fit into memory where there are many."""
    scores = cosines(known.embeddings[rows], known.embeddings)
    scores[torch.arange(len(rows)), rows] = -torch.inf
    order = scores.argsort(dim=1, descending=True, stable=True)[:, :-1]
    same = (known.labels[order] == known.labels[rows].unsqueeze(1)).double()
    at = same.cumsum(1) / torch.arange(1, same.shape[1] + 1)
    first = same[:, :places].sum(1) / min(places, same.shape[1])
    return first, (at * same).sum(1) / same.sum(1).clamp_min(1)
