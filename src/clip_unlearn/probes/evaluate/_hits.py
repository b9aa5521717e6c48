"""Which pictures of other data are right before and after an edit."""

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request, key
from clip_unlearn.data.answers import answers, measured_images
from clip_unlearn.errors import DataError


def other_hits(before: Model, after: Model, request: Request, where: str) -> tuple[Tensor, Tensor]:
    """Return which pictures of a set are named right before and after, of n that show nothing to be forgotten: [n] x 2.

    Names of what is to be forgotten stay among those to choose from where the set has them.

    Raises:
        DataError: if the set has no labels, shares an image with the evidence, or shows only what is to be forgotten.
    """
    images = measured_images(where, "all", request)
    first, second = answers(before, images, request), answers(after, images, request)
    barred = {key(name) for concept in request.forget for name in concept.names}
    lost = torch.tensor([index for index, name in enumerate(images.classes) if key(name) in barred])
    kept = ~torch.isin(first.labels, lost)
    if not bool(kept.any()):
        raise DataError(f"{where} shows nothing but what is to be forgotten. Give other data.")
    return first.ranks[kept] == 1, second.ranks[kept] == 1
