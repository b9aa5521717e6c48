"""Building blocks of a drawn object: filled outlines and strokes in a [-1, 1] square, y downward.

Dimensions: n points.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
"""Array [n, 2] of x, y."""

_CIRCLE_STEPS: Final = 20
_ANGLES: Final = np.arange(_CIRCLE_STEPS) * (2 * math.pi / _CIRCLE_STEPS)
_CIRCLE: Final[Points] = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@final
@dataclass(frozen=True)
class Part:
    """One outline of an object, to be painted in order."""

    points: Points
    """Corners of a filled outline, or the run of a stroke."""

    tone: str
    """Name of the paint: a shade of the object's colour, or a fixed material."""

    width: float = 0.0
    """Stroke width in the units of the square; 0 means a filled outline."""


def ellipse(x: float, y: float, radius_x: float, radius_y: float, tone: str = "main") -> Part:
    """Return a filled ellipse."""
    return Part(_CIRCLE * (radius_x, radius_y) + (x, y), tone)


def box(left: float, top: float, right: float, bottom: float, tone: str = "main") -> Part:
    """Return a filled upright rectangle."""
    return Part(np.array([(left, top), (right, top), (right, bottom), (left, bottom)], dtype=np.float64), tone)


def polygon(*corners: tuple[float, float], tone: str = "main") -> Part:
    """Return a filled outline through the corners."""
    return Part(np.array(corners, dtype=np.float64), tone)


def stroke(*run: tuple[float, float], width: float, tone: str = "main") -> Part:
    """Return a line of constant width through the points."""
    return Part(np.array(run, dtype=np.float64), tone, width)


def arc_points(center: tuple[float, float], radii: tuple[float, float], degrees: tuple[float, float]) -> Points:
    """Return points along an elliptic arc; 0 degrees is right, 90 is down."""
    angles = np.radians(np.linspace(degrees[0], degrees[1], 13))
    return np.stack([center[0] + radii[0] * np.cos(angles), center[1] + radii[1] * np.sin(angles)], axis=1)


def ring(x: float, y: float, radius_x: float, radius_y: float, width: float, tone: str = "main") -> Part:
    """Return the stroke of a closed ellipse."""
    return Part(np.concatenate([_CIRCLE, _CIRCLE[:2]]) * (radius_x, radius_y) + (x, y), tone, width)


def arc(
    center: tuple[float, float],
    radii: tuple[float, float],
    degrees: tuple[float, float],
    *,
    width: float,
    tone: str = "main",
) -> Part:
    """Return the stroke of an elliptic arc."""
    return Part(arc_points(center, radii, degrees), tone, width)
