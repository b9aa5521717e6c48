"""Losses of matched and unmatched embeddings of length 1. n pairs, k classes, d embedding width."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax


def classification(images: Tensor, names: Tensor, labels: Tensor, scale: float) -> Tensor:
    """Return the mean cross-entropy of a zero-shot classifier: -log softmax_k(scale v.t_k)[label].

    Shapes: [n, d], [k, d], [n] -> scalar, at least 0.
    """
    return cross_entropy(scale * images @ names.T, labels)


def agreement(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosine of every matched pair. Shapes: [n, d], [n, d] -> [n], range [-1, 1]."""
    return (images * texts).sum(1)


def contrastive(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Return the symmetric contrastive loss of a batch of matched pairs.

    Shapes: [n, d], [n, d] -> scalar, at least 0.
    """
    logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def similarity_divergence(
    images: Tensor, texts: Tensor, before_images: Tensor, before_texts: Tensor, scale: float
) -> Tensor:
    """Return how far a batch's similarities have moved: KL(before || now) image to text plus text to image.

    Each direction is the mean over rows of sum p log(p / q), p and q the softmax of scale x cosines before and now.

    Shapes: [n, d] each -> scalar, at least 0.
    """
    now, before = scale * images @ texts.T, scale * before_images @ before_texts.T
    return divergence(now, before) + divergence(now.T, before.T)


def divergence(now: Tensor, before: Tensor) -> Tensor:
    """Return the mean KL(softmax before || softmax now) of rows of logits. Shapes: [n, k], [n, k] -> scalar."""
    wanted = log_softmax(before, dim=1)
    return kl_div(log_softmax(now, dim=1), wanted, reduction="batchmean", log_target=True)
