"""The Lipschitz loss and what goes with it. s noise draws, b pictures, t texts, d embedding width."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

_TINY: Final = 1e-12


def perturb(pixels: Tensor, deviation: float, draws: int, generator: torch.Generator) -> Tensor:
    """Return the pictures with normal noise, clipped to the range of the whole batch: [b, 3, h, w] -> [s, b, 3, h, w].

    clip(x + deviation noise, min over the batch, max over the batch), noise drawn on the CPU. Pixels are normalised.
    """
    noise = torch.randn(draws, *pixels.shape, generator=generator).to(pixels)
    return (pixels + deviation * noise).clamp(pixels.amin(), pixels.amax())


def lipschitz_parts(
    own_text: Tensor, own_images: Tensor, perturbed: Tensor, distances: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the two parts of the loss, of the images and of the text; their sum is `lipschitz_loss`.

    Each is (1 / 2S) sum over draws and pictures of ||own - stop(perturbed)||_2 / (2 distance), with own the embedding
    of the picture, or of the text, [d]; of several texts, [t, d], the mean over them counts. No gradient goes through
    `perturbed` [s, b, d] and `distances` [s, b], the Euclidean lengths of the noise in the normalised pictures.
    Embeddings are not normalised, and the batch is summed, not averaged.
    """
    still, weights = perturbed.detach(), 1 / (2 * distances.detach().clamp_min(_TINY))
    texts = own_text.reshape(-1, 1, 1, own_text.shape[-1])
    to_images = (own_images - still).norm(dim=-1)
    to_text = (texts - still).norm(dim=-1).mean(0)
    share = 1 / (2 * len(still))
    return share * (to_images * weights).sum(), share * (to_text * weights).sum()


def lipschitz_loss(own_text: Tensor, own_images: Tensor, perturbed: Tensor, distances: Tensor) -> Tensor:
    """Return how fast the embeddings of a class change around its pictures, text and images together.

    (1 / 2S) sum_s sum_x [ ||t - stop(v(x_s))||_2 + ||v(x) - stop(v(x_s))||_2 ] / (2 ||x - x_s||_2). The perturbed
    picture's embedding v(x_s) stands in for that of a perturbed text. Shapes as in `lipschitz_parts`.

    Source: Kravets and Namboodiri, arXiv 2407.07485, stage B.
    """
    images, text = lipschitz_parts(own_text, own_images, perturbed, distances)
    return images + text


def importance(gradient: Tensor) -> float:
    """Return the mean size of the numbers of a gradient."""
    return float(gradient.detach().abs().mean())


def select(scores: Mapping[str, float], count: int) -> tuple[str, ...]:
    """Return the names of the `count` largest scores, largest first; equal scores in the order of their names."""
    return tuple(sorted(scores, key=lambda name: (-scores[name], name))[:count])
