"""The three ways of making a picture: photo, painting, sketch.

Dimensions: p side of a finished picture.
"""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from clip_unlearn.sandbox import textures
from clip_unlearn.sandbox.canvas import (
    DRAWING_SIDE,
    SCALE,
    SIDE,
    Paint,
    PlacedPart,
    Pose,
    outline_parts,
    paint_mask,
    paint_parts,
)  # fmt: skip

_MATERIALS: Final[dict[str, Paint]] = {
    "ink": (40, 38, 44),
    "pale": (240, 234, 218),
    "wood": (122, 80, 46),
    "leaf": (72, 132, 58),
    "metal": (146, 152, 162),
    "glass": (158, 202, 226),
    "gold": (236, 170, 48),
}
_GRAPHITE: Final[dict[str, Paint]] = {
    tone: (gray, gray, gray)
    for tone, gray in {
        "main": 206, "dark": 158, "light": 236, "ink": 84, "pale": 246, "wood": 142, "leaf": 166,
        "metal": 190, "glass": 226, "gold": 186,
    }.items()
}  # fmt: skip
_OBSTACLE_CHANCE: Final = 0.25
_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
_DRAWING_ROWS, _DRAWING_COLUMNS = np.mgrid[0:DRAWING_SIDE, 0:DRAWING_SIDE]


@final
@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is to be drawn, in drawing pixels."""

    parts: tuple[PlacedPart, ...]
    pose: Pose
    color: Paint
    place: str


def draw_photo(scene: Scene, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a shaded picture: textured ground and wall, clutter, a cast shadow, sensor noise."""
    image, horizon = _surroundings(scene.place, random, painted=False)
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(0, 4))):
        _clutter(draw, scene.pose, horizon, random)
    paint_parts(draw, scene.parts, _paints(scene.color, random, rich=1.0))
    mask = _mask(scene.parts)
    _obstacle(draw, mask, scene.pose, random)
    return _light(_shrink(image), mask, random)


def draw_painting(scene: Scene, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a saturated picture in dabs of few colours on a woven canvas."""
    image, horizon = _surroundings(scene.place, random, painted=True)
    draw = ImageDraw.Draw(image)
    for _ in range(int(random.integers(0, 3))):
        _clutter(draw, scene.pose, horizon, random)
    paints = _paints(scene.color, random, rich=1.35)
    edge = tuple(int(channel * 0.42) for channel in paints["main"])
    outline_parts(draw, scene.parts, paints, (edge[0], edge[1], edge[2]))
    pixels = np.asarray(image)
    top, left = (int(offset) for offset in random.integers(0, DRAWING_SIDE, 2))
    drift = textures.grain(3.0, DRAWING_SIDE)[top : top + DRAWING_SIDE, left : left + DRAWING_SIDE] * 1.3
    steps = drift.astype(np.int64)
    rows = (_DRAWING_ROWS + steps).clip(0, DRAWING_SIDE - 1)
    columns = (_DRAWING_COLUMNS + steps.T).clip(0, DRAWING_SIDE - 1)
    dabs = _shrink(Image.fromarray(pixels[rows, columns]))
    canvas = _window(textures.weave(SIDE), random) * 9 + _window(textures.grain(1.6, SIDE), random) * 9
    return _bytes(np.round(dabs / 26) * 26 + canvas[:, :, None])


def draw_sketch(scene: Scene, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return grey pencil lines with hatched shading on grained paper."""
    paper = int(random.integers(228, 248))
    image = Image.new("RGB", (DRAWING_SIDE, DRAWING_SIDE), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    _scribble(draw, random)
    lead = int(random.integers(48, 100))
    outline_parts(draw, scene.parts, _GRAPHITE, (lead, lead, lead))
    pixels = _shrink(image)[:, :, 0]
    shade = _small(_mask(scene.parts)) * (0.5 + 0.5 * _slope(random))
    pixels = pixels - shade * _window(textures.hatching(SIDE), random) * random.uniform(30, 80)
    pixels = pixels + _window(textures.grain(0.6, SIDE), random) * 4
    tint = np.array([1.0, 0.995, random.uniform(0.95, 0.99)], dtype=np.float32)
    return _bytes(pixels[:, :, None] * tint)


def _surroundings(place: str, random: np.random.Generator, *, painted: bool) -> tuple[Image.Image, int]:
    horizon = int(random.uniform(0.35, 0.75) * DRAWING_SIDE)
    variants = random.integers(0, textures.VARIANTS, 2)
    offsets = random.integers(0, textures.TEXTURE_SIDE - DRAWING_SIDE, 4)
    image = _crop(textures.wall(painted, int(variants[0])), int(offsets[0]), int(offsets[1]))
    floor = _crop(textures.ground(place, painted, int(variants[1])), int(offsets[2]), int(offsets[3]))
    image.paste(floor, (0, horizon))
    return image, horizon


def _crop(texture: Image.Image, left: int, top: int) -> Image.Image:
    return texture.crop((left, top, left + DRAWING_SIDE, top + DRAWING_SIDE))


def _paints(color: Paint, random: np.random.Generator, *, rich: float) -> dict[str, Paint]:
    base = np.array(color, dtype=np.float32)
    base = base.mean() + (base - base.mean()) * rich + random.normal(0, 9, 3)

    def paint(values: NDArray[np.float32]) -> Paint:
        red, green, blue = values.clip(0, 255).astype(int).tolist()
        return (red, green, blue)

    own = {"main": paint(base), "dark": paint(base * 0.66), "light": paint(base * 0.55 + 255 * 0.45)}
    return {**_MATERIALS, **own}


def _clutter(draw: ImageDraw.ImageDraw, pose: Pose, horizon: int, random: np.random.Generator) -> None:
    """Put a plain block or ball beside the object, most of it behind or outside."""
    angle = random.uniform(0, 2 * math.pi)
    reach = pose.radius * random.uniform(0.9, 1.35)
    x, y = pose.x + reach * math.cos(angle), max(horizon - 4.0, pose.y + reach * math.sin(angle))
    wide, tall = random.uniform(4, 11, 2)
    fill = tuple(int(channel) for channel in random.integers(60, 210, 3))
    if random.random() < 0.5:
        draw.ellipse((x - wide, y - tall, x + wide, y + tall), fill=fill)
    else:
        draw.rectangle((x - wide, y - tall, x + wide, y + tall), fill=fill)


def _obstacle(draw: ImageDraw.ImageDraw, mask: Image.Image, pose: Pose, random: np.random.Generator) -> None:
    """Sometimes hide a bit of the object's lower edge behind a plain block."""
    if random.random() >= _OBSTACLE_CHANCE:
        return
    x = pose.x + pose.radius * random.uniform(-0.9, 0.9)
    y = pose.y + pose.radius * random.uniform(0.7, 1.0)
    wide, tall = random.uniform(5, 10, 2)
    corners = (x - wide, y - tall, x + wide, y + tall)
    draw.rectangle(corners, fill=tuple(int(channel) for channel in random.integers(60, 210, 3)))
    ImageDraw.Draw(mask).rectangle(corners, fill=0)


def _scribble(draw: ImageDraw.ImageDraw, random: np.random.Generator) -> None:
    for _ in range(int(random.integers(0, 4))):
        x, y, dx, dy = random.uniform((0, 0, -40, -8), (DRAWING_SIDE, DRAWING_SIDE, 40, 8)).tolist()
        gray = int(random.integers(150, 205))
        draw.line((x, y, x + dx, y + dy), fill=(gray, gray, gray), width=2)


def _mask(parts: tuple[PlacedPart, ...]) -> Image.Image:
    mask = Image.new("L", (DRAWING_SIDE, DRAWING_SIDE), 0)
    paint_mask(mask, parts)
    return mask


def _light(pixels: NDArray[np.float32], mask: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
    inside = _small(mask)
    soft = np.asarray(mask.reduce(SCALE).filter(ImageFilter.BoxBlur(2)), dtype=np.float32) / 255
    right, down = int(random.integers(-4, 5)), int(random.integers(1, 4))
    shadow = np.roll(soft, (down, right), axis=(0, 1)) * (1 - inside)
    round_light = 0.72 + 0.3 * soft + 0.3 * (_slope(random) - 0.5)
    gain = 1 + inside * (round_light - 1) - 0.5 * shadow
    noise = _window(textures.grain(0.0, SIDE), random) * random.uniform(2, 7)
    exposure = random.uniform(0.82, 1.14)
    return _bytes(pixels * (gain * exposure)[:, :, None] + noise[:, :, None])


def _slope(random: np.random.Generator) -> NDArray[np.float32]:
    angle = random.uniform(0, 2 * math.pi)
    plane = (_COLUMNS / SIDE - 0.5) * math.cos(angle) + (_ROWS / SIDE - 0.5) * math.sin(angle)
    return np.asarray((plane + 0.5).clip(0, 1), dtype=np.float32)


def _window(field: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    top, left = (int(offset) for offset in random.integers(0, SIDE, 2))
    return field[top : top + SIDE, left : left + SIDE]


def _shrink(image: Image.Image) -> NDArray[np.float32]:
    pixels: NDArray[np.float32] = np.asarray(image.reduce(SCALE), dtype=np.float32)
    return pixels


def _small(mask: Image.Image) -> NDArray[np.float32]:
    return np.asarray(mask.reduce(SCALE), dtype=np.float32) / np.float32(255)


def _bytes(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    return pixels.clip(0, 255).astype(np.uint8)
