"""Garments: shirt, dress, trousers, hat."""

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, arc, box, ellipse, polygon, stroke


def shirt(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a body with two short sleeves, a collar and buttons."""
    reach = random.uniform(0.82, 0.95)
    hem = random.uniform(0.72, 0.88)
    return (
        polygon((-0.3, -0.7), (-reach, -0.22), (-reach + 0.2, 0.1), (-0.42, -0.16)),
        polygon((0.3, -0.7), (reach, -0.22), (reach - 0.2, 0.1), (0.42, -0.16)),
        polygon((-0.32, -0.72), (0.32, -0.72), (0.5, -0.5), (0.46, hem), (-0.46, hem), (-0.5, -0.5)),
        polygon((-0.24, -0.74), (0.24, -0.74), (0.0, -0.4), tone="pale"),
        stroke((0.0, -0.4), (0.0, hem), width=0.05, tone="dark"),
        *(ellipse(0.1, y, 0.05, 0.05, "ink") for y in (-0.1, 0.2, 0.5)),
    )


def dress(random: np.random.Generator) -> tuple[Part, ...]:
    """Return thin straps, a fitted top, a belt and a flared skirt."""
    flare = random.uniform(0.62, 0.8)
    return (
        stroke((-0.2, -0.94), (-0.22, -0.6), width=0.09),
        stroke((0.2, -0.94), (0.22, -0.6), width=0.09),
        polygon((-0.32, -0.66), (0.0, -0.56), (0.32, -0.66), (0.22, -0.12), (-0.22, -0.12)),
        polygon((-0.2, -0.14), (0.2, -0.14), (flare, 0.86), (-flare, 0.86)),
        stroke((-0.08, 0.1), (-0.24, 0.84), width=0.05, tone="dark"),
        stroke((0.08, 0.1), (0.24, 0.84), width=0.05, tone="dark"),
        box(-0.24, -0.2, 0.24, -0.06, "pale"),
        stroke((-flare, 0.84), (flare, 0.84), width=0.08, tone="light"),
    )


def trousers(random: np.random.Generator) -> tuple[Part, ...]:
    """Return two long legs below a waistband."""
    foot = random.uniform(0.44, 0.6)
    return (
        polygon((-0.4, -0.8), (0.06, -0.8), (0.02, -0.1), (-foot + 0.34, 0.94), (-foot, 0.94)),
        polygon((0.4, -0.8), (-0.06, -0.8), (-0.02, -0.1), (foot - 0.34, 0.94), (foot, 0.94)),
        box(-0.42, -0.92, 0.42, -0.74, "dark"),
        stroke((0.0, -0.74), (0.0, -0.2), width=0.05, tone="dark"),
        arc((-0.4, -0.72), (0.2, 0.26), (0, 90), width=0.05, tone="dark"),
        arc((0.4, -0.72), (0.2, 0.26), (180, 90), width=0.05, tone="dark"),
    )


def hat(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a wide brim below a crown with a ribbon."""
    crown = random.uniform(0.4, 0.52)
    top = random.uniform(-0.6, -0.4)
    return (
        ellipse(0.0, 0.42, 0.96, 0.26, "dark"),
        ellipse(0.0, 0.36, 0.96, 0.22),
        polygon((-crown, 0.34), (-crown + 0.06, top), (crown - 0.06, top), (crown, 0.34)),
        ellipse(0.0, top, crown - 0.06, 0.18, "light"),
        polygon((-crown, 0.12), (crown, 0.12), (crown, 0.36), (-crown, 0.36), tone="ink"),
    )
