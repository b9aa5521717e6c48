"""Which captions name what is to be forgotten. n images."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clip_unlearn.core.request import Request, key
from clip_unlearn.data.images import ImageSet


def mentions(names: Sequence[str]) -> Callable[[str], bool]:
    """Return whether a sentence has one of the names in it as whole words, or as a plain plural; case is folded."""
    words = "|".join(re.escape(key(name)) for name in names)
    pattern = re.compile(rf"(?<!\w)(?:{words})(?:s|es)?(?!\w)")
    return lambda sentence: pattern.search(key(sentence)) is not None


def mentioned(images: ImageSet, request: Request, other_senses: Sequence[str] = ()) -> Tensor:
    """Return which images have a caption that names a concept to forget, and none with another sense of it: [n]."""
    named = mentions([name for concept in request.forget for name in concept.names])
    other = mentions(other_senses) if other_senses else None
    captions = [images.captions[row] for row in range(len(images))]
    return torch.tensor([any(map(named, some)) and not (other and any(map(other, some))) for some in captions])
