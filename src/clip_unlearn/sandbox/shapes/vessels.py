"""Vessels: mug, bowl, teapot, bottle."""

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, arc, arc_points, box, ellipse, polygon, stroke


def mug(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a straight body, an open rim and one ear-shaped handle."""
    half = random.uniform(0.46, 0.62)
    foot = half * random.uniform(0.78, 1.0)
    top = random.uniform(-0.72, -0.45)
    return (
        arc((half - 0.04, 0.08), (0.42, 0.36), (-92, 92), width=0.17, tone="dark"),
        polygon((-half, top), (half, top), (foot, 0.72), (-foot, 0.72)),
        ellipse(0, 0.72, foot, 0.13),
        ellipse(0, top, half, 0.17, "light"),
        ellipse(0, top + 0.02, half - 0.09, 0.11, "ink"),
    )


def bowl(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a half round below a wide open rim, on a small foot."""
    half = random.uniform(0.78, 0.95)
    depth = random.uniform(0.72, 0.95)
    top = -0.3
    belly = arc_points((0, top), (half, depth), (0, 180))
    return (
        box(-0.32, top + depth - 0.1, 0.32, top + depth + 0.1, "dark"),
        Part(belly, "main"),
        ellipse(0, top, half, 0.2, "light"),
        ellipse(0, top + 0.02, half - 0.1, 0.13, "ink"),
    )


def teapot(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a round body with a spout on one side, a handle on the other and a lid with a knob."""
    wide = random.uniform(0.5, 0.6)
    tall = random.uniform(0.44, 0.54)
    return (
        arc((wide - 0.04, 0.12), (0.36, 0.34), (-100, 95), width=0.13, tone="dark"),
        polygon((-0.34, 0.42), (-wide, -0.02), (-0.98, -0.42), (-0.78, -0.46), (-0.3, 0.0)),
        ellipse(0, 0.18, wide, tall),
        box(-0.3, 0.55, 0.3, 0.72, "dark"),
        ellipse(0, 0.2 - tall, 0.34, 0.13, "light"),
        ellipse(0, 0.02 - tall, 0.11, 0.11, "dark"),
    )


def bottle(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a tall body, sloping shoulders, a narrow neck and a stopper."""
    half = random.uniform(0.28, 0.38)
    shoulder = random.uniform(-0.3, -0.1)
    return (
        polygon(
            (-half, 0.92), (-half, shoulder), (-0.12, shoulder - 0.28), (-0.12, -0.82),
            (0.12, -0.82), (0.12, shoulder - 0.28), (half, shoulder), (half, 0.92),
        ),
        box(-0.15, -0.98, 0.15, -0.78, "wood"),
        box(-half, 0.15, half, 0.6, "pale"),
        stroke((-half * 0.55, shoulder), (-half * 0.55, 0.8), width=0.06, tone="light"),
    )  # fmt: skip
