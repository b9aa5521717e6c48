"""What an ascent does to pictures between steps, on their device, and how it is computed. n pictures."""

import contextlib
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from clip_unlearn.core.model import Model

GREY: Final = 0.5
CONTRAST: Final = 0.2

SMALL: Final = 5_000_000
"""Number of weights under which one thread is the fastest."""

CPU_NUMBERS: Final = 600_000
"""Numbers in one batch of pixels on a CPU, beyond which memory traffic slows it down."""

CPU_LEAST: Final = 32
"""Pictures in one batch on a CPU, however large they are. Fewer would be somewhat faster where pictures have 160 pixels
a side, but round differently, and an ascent lets that grow: albums are made 32 at once, and stay the same."""


@contextlib.contextmanager
def few_threads(model: Model) -> Iterator[None]:
    """Compute small models with one thread: two that wait for each other after every tiny step are slower."""
    before = torch.get_num_threads()
    if sum(weight.numel() for weight in model.weights.values()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def portions(count: int, pixels: Tensor) -> tuple[slice, ...]:
    """Return which of `count` pictures like `pixels` [n, 3, h, w] to run through a model at once, first to last.

    On an accelerator all of them; on a CPU about 600,000 numbers, but at least 32 pictures.
    """
    most = max(1, count)
    if pixels.device.type == "cpu":
        most = max(CPU_LEAST, CPU_NUMBERS // pixels[0].numel())
    return tuple(slice(first, first + most) for first in range(0, count, most))


def noise(count: int, side: tuple[int, int], grains: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return pictures of noise, in turn of each grain size, drawn on the CPU: 1/2 + 0.2 normal, in [0, 1].

    Shapes: [count, 3, *side], float32.
    """
    pictures = []
    for index in range(count):
        coarse = [max(2, length // grains[index % len(grains)]) for length in side]
        drawn = torch.randn(1, 3, *coarse, generator=generator)
        pictures.append(interpolate(drawn, size=side, mode="bilinear", align_corners=False))
    return (GREY + CONTRAST * torch.cat(pictures)).clamp(0, 1)


def blurred(pixels: Tensor, deviation: float) -> Tensor:
    """Return the pictures after a Gaussian blur cut at three deviations, edges repeated. [n, 3, h, w] both."""
    radius = max(1, round(3 * deviation))
    places = torch.arange(-radius, radius + 1, device=pixels.device, dtype=pixels.dtype)
    weights = (-0.5 * (places / deviation).square()).exp()
    kernel = (weights / weights.sum()).expand(3, 1, 1, -1)
    wide = pad(pixels, (radius,) * 4, mode="replicate")
    return conv2d(conv2d(wide, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def variation(pixels: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours, across plus down, of every picture. [n, 3, h, w] -> [n]."""
    return pixels.diff(dim=3).abs().mean((1, 2, 3)) + pixels.diff(dim=2).abs().mean((1, 2, 3))
