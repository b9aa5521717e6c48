"""Fruits: apple, pear, banana, cherry."""

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, arc, arc_points, ellipse, polygon, stroke


def apple(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a round fruit with a dip, a stalk and a leaf."""
    tall = random.uniform(0.6, 0.7)
    return (
        ellipse(-0.26, 0.16, 0.5, tall),
        ellipse(0.26, 0.16, 0.5, tall),
        ellipse(0.0, 0.22, 0.56, tall * 0.9),
        arc((0.0, -0.5), (0.22, 0.14), (15, 165), width=0.07, tone="dark"),
        stroke((0.0, -0.36), (0.08, -0.85), width=0.09, tone="wood"),
        polygon((0.08, -0.6), (0.34, -0.9), (0.66, -0.84), (0.42, -0.58), tone="leaf"),
        ellipse(-0.38, -0.06, 0.1, 0.18, "light"),
    )


def pear(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a fruit with a narrow top and a wide base."""
    wide = random.uniform(0.5, 0.6)
    neck = random.uniform(0.22, 0.28)
    return (
        ellipse(0.0, 0.4, wide, 0.5),
        ellipse(0.0, -0.4, neck, 0.3),
        polygon((-neck, -0.42), (neck, -0.42), (wide * 0.92, 0.22), (-wide * 0.92, 0.22)),
        stroke((0.0, -0.62), (0.08, -0.98), width=0.09, tone="wood"),
        polygon((0.08, -0.74), (0.3, -0.94), (0.54, -0.86), (0.3, -0.68), tone="leaf"),
        ellipse(-0.22, 0.3, 0.09, 0.18, "light"),
    )


def banana(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a crescent with two dark tips."""
    inner = random.uniform(0.3, 0.44)
    outside = arc_points((0.0, -0.45), (0.95, 1.05), (8, 172))
    inside = arc_points((0.0, -0.52), (0.8, inner + 0.2), (172, 8))
    return (
        Part(np.concatenate([outside, inside]), "main"),
        arc((0.0, -0.5), (0.86, 0.86), (20, 160), width=0.06, tone="dark"),
        stroke((0.87, -0.3), (0.86, -0.56), width=0.15, tone="wood"),
        stroke((-0.87, -0.34), (-0.9, -0.44), width=0.13, tone="ink"),
    )


def cherry(random: np.random.Generator) -> tuple[Part, ...]:
    """Return two small round fruits on joined stalks with a leaf."""
    size = random.uniform(0.32, 0.38)
    drop = random.uniform(0.36, 0.5)
    return (
        stroke((-0.46, drop - 0.2), (-0.24, -0.4), (0.12, -0.84), width=0.07, tone="leaf"),
        stroke((0.46, drop - 0.1), (0.42, -0.3), (0.12, -0.84), width=0.07, tone="leaf"),
        polygon((0.12, -0.84), (0.4, -0.98), (0.86, -0.78), (0.5, -0.58), tone="leaf"),
        ellipse(-0.48, drop, size, size),
        ellipse(0.46, drop + 0.1, size, size),
        ellipse(-0.58, drop - 0.1, 0.09, 0.11, "light"),
        ellipse(0.36, drop, 0.09, 0.11, "light"),
    )
