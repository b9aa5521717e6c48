"""How far the embeddings of retained images and names move."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import mean
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import answers, class_texts, forget_indices, measured_images
from clip_unlearn.maths.scores import class_means
from clip_unlearn.maths.vectors import unit


@final
class Drift(Probe):
    """Cosine between the embedding before and after, averaged over retained classes; 1 = nothing moved.

    Images: first averaged within each class, because images of a class move together; the interval is over classes.
    Texts: the classifier row of each retained class name. Without data, texts alone: the names to retain, or else
    those of the background.
    """

    needs_images: ClassVar = False

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the image drift and the text drift of retained classes.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        if not self.data:
            return _texts(before, after, request, request.retain or request.background)
        images = measured_images(self.data, self.split, request)
        forget = set(forget_indices(images, request))
        first, second = answers(before, images, request), answers(after, images, request)
        moved = class_means(
            _cosine(first.embeddings, second.embeddings).unsqueeze(1), first.labels, len(images.classes)
        )
        present = torch.bincount(first.labels, minlength=len(images.classes)) > 0
        kept = [index for index in range(len(images.classes)) if index not in forget and bool(present[index])]
        if not kept:
            return ()
        names = [images.classes[index] for index in kept]
        return (mean("image drift", moved[kept, 0], "high"), *_texts(before, after, request, names))


def _texts(before: Model, after: Model, request: Request, names: Sequence[str]) -> Readings:
    if not names:
        return ()
    cosines = _cosine(class_texts(before, request, names), class_texts(after, request, names))
    return (mean("text drift", cosines.cpu(), "high"),)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    return (unit(first.float()) * unit(second.float())).sum(dim=-1)
