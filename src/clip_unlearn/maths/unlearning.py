"""Pieces of losses that forget, of embeddings of length 1. n images, m others, p repelling, k classes, d width."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, mse_loss


def negative_preference(now: Tensor, before: Tensor, beta: float) -> Tensor:
    """Return how far a model still prefers answers as one before it did.

    -(2 / beta) mean log sigmoid(-beta (now - before)), both the log probabilities of answers to be forgotten; falls
    towards 0 as they become unlikely, and tends to the mean of `now - before` plus a constant as beta tends to 0.

    Shapes: [n], [n] -> scalar, above 0. `beta` is positive.
    Source: Zhang et al. 2024, arXiv 2404.05868.
    """
    return -2 / beta * logsigmoid(-beta * (now - before)).mean()


def shuffled(rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return every row with its entries in a random order of its own. Shape: [n, k] -> [n, k]."""
    order = torch.rand(rows.shape, generator=generator, dtype=torch.float64).argsort(1)
    return rows.gather(1, order.to(rows.device))


def contrast(anchors: Tensor, attracting: Tensor, repelling: Tensor, repels: Tensor, temperature: float) -> Tensor:
    """Return a contrastive loss that draws embeddings to some and drives them from others.

    mean_i [ log sum_{p in P_i} exp(z_i.z_p / temperature) - mean_a z_i.z_a / temperature ], P_i what `repels` marks for
    the anchor i. An anchor that nothing repels has 0 in place of the logarithm.

    Shapes: anchors [n, d], attracting [m, d], repelling [p, d], repels [n, p] of True and False -> scalar.
    Source: Lee et al. 2024, arXiv 2401.10458, where the roles of a contrastive loss are exchanged in this way.
    """
    pulled = (anchors @ attracting.T).mean() / temperature
    some = repels.any(1)
    scores = (anchors @ repelling.T / temperature).masked_fill(~repels, -torch.inf)
    return scores[some].logsumexp(1).sum() / len(anchors) - pulled


def similarity_error(images: Tensor, texts: Tensor, wanted_images: Tensor, wanted_texts: Tensor) -> Tensor:
    """Return the mean squared error of a batch's cosines, both directions summed.

    2 mean_ij (v_i.t_j - v'_i.t'_j)^2: for a dual encoder both directions have the same entries.

    Shapes: [n, d], [m, d], [n, d], [m, d] -> scalar, in [0, 8].
    """
    return 2 * mse_loss(images @ texts.T, wanted_images @ wanted_texts.T)
