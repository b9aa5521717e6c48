"""Scores of a zero-shot classifier. Dimensions: n images, k classes, d embedding width."""

import torch
from torch import Tensor

from clip_unlearn.maths.vectors import unit


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosine of every image with every text; a null embedding scores 0 with everything.

    Shapes: [n, d], [k, d] -> [n, k], range [-1, 1].
    """
    return unit(images.float()) @ unit(texts.float()).T


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the place of each true class in the order of scores, 1 = first; a tie counts against the class.

    k - number of classes that score less. Ties count against, because a null embedding ties with all, and so does NaN.

    Shapes: [n, k], [n] -> [n], whole numbers in 1..k.
    """
    own = scores.gather(1, labels.unsqueeze(1))
    return scores.shape[1] - (scores < own).sum(dim=1)


def class_means(vectors: Tensor, groups: Tensor, count: int) -> Tensor:
    """Return the mean of the vectors of each group, in the vectors' dtype.

    Shapes: [n, d], [n] with values in 0..count-1 -> [count, d]; an empty group has mean 0.
    """
    sums = torch.zeros((count, vectors.shape[1]), dtype=vectors.dtype, device=vectors.device)
    sums.index_add_(0, groups, vectors)
    sizes = torch.bincount(groups, minlength=count).clamp_min(1).to(vectors.dtype)
    return sums / sizes.unsqueeze(1)
