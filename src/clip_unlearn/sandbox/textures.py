"""Tileable grounds, walls and surfaces, built once from fixed seeds.

Dimensions: s side of a texture in drawing pixels, p side of a finished picture.
"""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

TEXTURE_SIDE: Final = 224
"""Side of a ground or wall texture, in drawing pixels; pictures take random windows of it."""

VARIANTS: Final = 6
"""Number of different textures of each kind."""

_GROUNDS: Final[dict[str, tuple[int, int, int]]] = {
    "table": (150, 104, 62),
    "grass": (104, 148, 74),
    "sand": (206, 184, 134),
    "tiles": (168, 178, 186),
}
_WALLS: Final = ((196, 206, 214), (222, 214, 198), (178, 190, 176), (206, 190, 196), (160, 172, 190), (214, 220, 206))


def smooth_noise(random: np.random.Generator, side: int, blur: float) -> NDArray[np.float32]:
    """Return noise [side, side] of zero mean and unit deviation whose grain is about `blur` pixels."""
    grain = random.integers(0, 256, (side, side), dtype=np.uint8)
    if blur > 0:
        tiled = Image.fromarray(np.tile(grain, (2, 2)))
        grain = np.asarray(tiled.filter(ImageFilter.GaussianBlur(blur)))[side // 2 : side // 2 + side, :]
        grain = grain[:, side // 2 : side // 2 + side]
    noise = grain.astype(np.float32)
    return np.asarray((noise - noise.mean()) / (noise.std() + 1e-6), dtype=np.float32)


def _image(color: tuple[int, int, int], relief: NDArray[np.float32]) -> Image.Image:
    pixels = np.array(color, dtype=np.float32) + relief[:, :, None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _relief(place: str, random: np.random.Generator) -> NDArray[np.float32]:
    side = TEXTURE_SIDE
    if place == "table":
        rows = smooth_noise(random, side, 1.5).mean(axis=1, keepdims=True) * 60
        planks = np.where(np.arange(side) % 32 < 2, -34, 0).astype(np.float32)[:, None]
        return np.asarray(rows + planks + smooth_noise(random, side, 2.0) * 6, dtype=np.float32)
    if place == "grass":
        blades = np.asarray(smooth_noise(random, side, 0.8), dtype=np.float32)
        return blades * 16 + smooth_noise(random, side, 6.0) * 8
    if place == "sand":
        return smooth_noise(random, side, 0.0) * 9 + smooth_noise(random, side, 8.0) * 9
    lines = np.arange(side) % 28 < 2
    grid = np.where(lines[:, None] | lines[None, :], -46, 0).astype(np.float32)
    return np.asarray(grid + smooth_noise(random, side, 5.0) * 5, dtype=np.float32)


@functools.lru_cache(maxsize=256)
def ground(place: str, painted: bool, variant: int) -> Image.Image:  # noqa: FBT001
    """Return the texture of a ground, square of side TEXTURE_SIDE; painted grounds are richer and coarser."""
    random = np.random.default_rng((11, list(_GROUNDS).index(place), int(painted), variant))
    red, green, blue = _GROUNDS[place]
    shift = random.integers(-16, 17, 3)
    color = (int(red + shift[0]), int(green + shift[1]), int(blue + shift[2]))
    relief = _relief(place, random)
    if not painted:
        return _image(color, relief)
    gray = sum(color) / 3
    rich = tuple(int(gray + (channel - gray) * 1.7) for channel in color)
    return _image((rich[0], rich[1], rich[2]), relief * 0.7 + smooth_noise(random, TEXTURE_SIDE, 4.0) * 15)


@functools.lru_cache(maxsize=64)
def wall(painted: bool, variant: int) -> Image.Image:  # noqa: FBT001
    """Return the texture of what stands behind, square of side TEXTURE_SIDE."""
    random = np.random.default_rng((12, int(painted), variant))
    red, green, blue = _WALLS[variant % len(_WALLS)]
    fade = np.linspace(10, -14, TEXTURE_SIDE, dtype=np.float32)[:, None]
    relief = np.asarray(fade + smooth_noise(random, TEXTURE_SIDE, 12.0) * 6, dtype=np.float32)
    if not painted:
        return _image((red, green, blue), relief)
    gray = (red + green + blue) / 3
    rich = [int(gray + (channel - gray) * 3.0) for channel in (red, green, blue)]
    return _image((rich[0], rich[1], rich[2]), relief + smooth_noise(random, TEXTURE_SIDE, 4.0) * 16)


@functools.lru_cache(maxsize=8)
def grain(blur: float, side: int) -> NDArray[np.float32]:
    """Return a fixed noise field [2 side, 2 side], unit deviation, to take windows of."""
    return smooth_noise(np.random.default_rng((13, int(blur * 10))), 2 * side, blur)


@functools.lru_cache(maxsize=4)
def weave(side: int) -> NDArray[np.float32]:
    """Return the relief [2 side, 2 side] of a canvas, about -1 to 1."""
    threads = np.where(np.arange(2 * side) % 2 == 0, 0.5, -0.5).astype(np.float32)
    return np.asarray(threads[:, None] * threads[None, :] * 2 + grain(0.6, side) * 0.5, dtype=np.float32)


@functools.lru_cache(maxsize=4)
def hatching(side: int) -> NDArray[np.float32]:
    """Return slanted pencil lines [2 side, 2 side], 0 for paper to 1 for graphite."""
    rows, columns = np.mgrid[0 : 2 * side, 0 : 2 * side]
    wave = np.sin((rows + columns) * 1.45 + grain(3.0, side) * 0.7)
    return np.asarray((wave > 0.1) * (0.6 + 0.25 * grain(0.8, side)), dtype=np.float32).clip(0, 1)
