"""Vehicles: car, bus, bicycle, boat."""

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, box, ellipse, polygon, ring, stroke


def _wheel(x: float, y: float, radius: float) -> tuple[Part, ...]:
    return (ellipse(x, y, radius, radius, "ink"), ellipse(x, y, radius * 0.45, radius * 0.45, "metal"))


def car(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a low body with a sloping cabin on two visible wheels."""
    roof = random.uniform(-0.5, -0.38)
    back = random.uniform(0.5, 0.66)
    return (
        polygon((-0.6, 0.0), (-0.34, roof), (back - 0.18, roof), (back, 0.0)),
        polygon((-0.48, 0.0), (-0.28, roof + 0.1), (-0.02, roof + 0.1), (-0.02, 0.0), tone="glass"),
        polygon((0.08, 0.0), (0.08, roof + 0.1), (back - 0.24, roof + 0.1), (back - 0.12, 0.0), tone="glass"),
        polygon((-0.98, 0.08), (-0.6, -0.04), (0.9, -0.04), (0.98, 0.12), (0.98, 0.42), (-0.98, 0.42)),
        box(-0.98, 0.32, 0.98, 0.44, "dark"),
        *_wheel(-0.54, 0.44, 0.24),
        *_wheel(0.54, 0.44, 0.24),
    )


def bus(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a long tall box with a row of windows on two visible wheels."""
    top = random.uniform(-0.68, -0.52)
    sills = (-0.8, -0.42, -0.04, 0.34)
    return (
        box(-0.98, top, 0.98, 0.5),
        *(box(left, top + 0.16, left + 0.3, top + 0.5, "glass") for left in sills),
        box(0.7, top + 0.16, 0.9, 0.46, "glass"),
        box(-0.98, 0.18, 0.66, 0.28, "light"),
        box(-0.98, 0.42, 0.98, 0.52, "dark"),
        *_wheel(-0.56, 0.52, 0.2),
        *_wheel(0.42, 0.52, 0.2),
    )


def bicycle(random: np.random.Generator) -> tuple[Part, ...]:
    """Return two thin wheels joined by a frame, with a saddle and handlebars."""
    radius = random.uniform(0.36, 0.42)
    saddle = random.uniform(-0.46, -0.34)
    return (
        ring(-0.56, 0.34, radius, radius, 0.09, "ink"),
        ring(0.56, 0.34, radius, radius, 0.09, "ink"),
        stroke((-0.56, 0.34), (-0.18, -0.2), (0.38, -0.2), (0.0, 0.36), (-0.56, 0.34), width=0.11),
        stroke((0.0, 0.36), (-0.26, saddle), width=0.11),
        stroke((0.56, 0.34), (0.32, -0.52), width=0.11),
        stroke((-0.44, saddle), (-0.1, saddle), width=0.13, tone="ink"),
        stroke((0.32, -0.52), (0.6, -0.62), width=0.1, tone="ink"),
        ellipse(0.0, 0.36, 0.1, 0.1, "metal"),
    )


def boat(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a hull below a mast with a large and a small sail."""
    top = random.uniform(-0.95, -0.8)
    return (
        polygon((-0.95, 0.38), (0.95, 0.38), (0.62, 0.82), (-0.62, 0.82)),
        box(-0.88, 0.38, 0.88, 0.5, "dark"),
        stroke((0.0, 0.4), (0.0, top), width=0.08, tone="wood"),
        polygon((0.1, top + 0.06), (0.78, 0.24), (0.1, 0.24), tone="pale"),
        polygon((-0.08, top + 0.22), (-0.62, 0.24), (-0.08, 0.24), tone="light"),
    )
