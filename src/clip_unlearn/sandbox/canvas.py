"""Places an object on a drawing canvas and paints its parts.

Dimensions: n points. Drawing pixels are SCALE times finer than those of the finished picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from PIL import Image, ImageDraw

from clip_unlearn.sandbox.shapes.parts import Part

SIDE: Final = 48
"""Side of a finished picture, in pixels."""

SCALE: Final = 2
"""Drawing pixels per finished pixel, along a side."""

DRAWING_SIDE: Final = SIDE * SCALE

Paint: TypeAlias = tuple[int, int, int]
Run: TypeAlias = list[float]


@final
@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where and how an object lies on the canvas."""

    x: float
    """Centre from the left, in drawing pixels."""

    y: float
    """Centre from the top, in drawing pixels."""

    radius: float
    """Half the side of the object's square, in drawing pixels."""

    stretch: float
    """Width over height."""

    turn: float
    """Clockwise rotation, in radians."""

    flipped: bool
    """Mirrored left to right."""


@final
@dataclass(frozen=True)
class PlacedPart:
    """A part in drawing pixels: a flat run x0, y0, x1, y1, … ready for Pillow."""

    run: Run
    tone: str
    width: float


def place_parts(parts: Sequence[Part], pose: Pose, wobble: np.ndarray | None = None) -> list[PlacedPart]:
    """Return the parts in drawing pixels, each point moved by the next row of `wobble` if given."""
    points = np.concatenate([part.points for part in parts])
    cos, sin = math.cos(pose.turn), math.sin(pose.turn)
    wide = pose.radius * math.sqrt(pose.stretch)
    tall = pose.radius / math.sqrt(pose.stretch)
    mirror = -wide if pose.flipped else wide
    matrix = np.array([[cos * mirror, sin * mirror], [-sin * tall, cos * tall]])
    placed = points @ matrix + (pose.x, pose.y)
    if wobble is not None:
        placed += wobble[: len(placed)]
    flat = placed.ravel().tolist()
    result: list[PlacedPart] = []
    start = 0
    for part in parts:
        stop = start + part.points.size
        result.append(PlacedPart(flat[start:stop], part.tone, part.width * pose.radius))
        start = stop
    return result


def paint_parts(draw: ImageDraw.ImageDraw, parts: Sequence[PlacedPart], paints: dict[str, Paint]) -> None:
    """Paint the parts in order, each with the paint of its tone."""
    for part in parts:
        if part.width > 0:
            draw.line(part.run, fill=paints[part.tone], width=max(2, round(part.width)), joint="curve")
        else:
            draw.polygon(part.run, fill=paints[part.tone])


def paint_mask(mask: Image.Image, parts: Sequence[PlacedPart]) -> None:
    """Paint the outline of the whole object, 255 inside, on a one-channel image."""
    draw = ImageDraw.Draw(mask)
    for part in parts:
        if part.width > 0:
            draw.line(part.run, fill=255, width=max(2, round(part.width)), joint="curve")
        else:
            draw.polygon(part.run, fill=255)


def outline_parts(
    draw: ImageDraw.ImageDraw, parts: Sequence[PlacedPart], paints: dict[str, Paint], pencil: Paint
) -> None:
    """Paint the parts with a pencil line around every run of parts of one tone."""
    start = 0
    for stop in range(1, len(parts) + 1):
        if stop < len(parts) and parts[stop].tone == parts[start].tone:
            continue
        for part in parts[start:stop]:
            _trace(draw, part, pencil)
        paint_parts(draw, parts[start:stop], paints)
        start = stop


def _trace(draw: ImageDraw.ImageDraw, part: PlacedPart, pencil: Paint) -> None:
    if part.width > 0:
        draw.line(part.run, fill=pencil, width=max(2, round(part.width)) + 4, joint="curve")
    else:
        draw.line([*part.run, *part.run[:4]], fill=pencil, width=5, joint="curve")
