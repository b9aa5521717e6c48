"""Buildings: house, church, castle, windmill."""

import math

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, box, ellipse, polygon, stroke


def house(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a wide front with a gable roof, a door, windows and a chimney."""
    peak = random.uniform(-0.9, -0.72)
    door = random.uniform(-0.2, 0.2)
    return (
        box(0.38, -0.86, 0.6, -0.2, "wood"),
        box(-0.7, -0.2, 0.7, 0.82),
        polygon((-0.95, -0.14), (0.0, peak), (0.95, -0.14), tone="dark"),
        box(door - 0.14, 0.26, door + 0.14, 0.82, "wood"),
        box(-0.58, 0.04, -0.3, 0.34, "glass"),
        box(0.3, 0.04, 0.58, 0.34, "glass"),
    )


def church(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a low nave beside a tower with a pointed spire and a cross."""
    eaves = random.uniform(0.06, 0.2)
    return (
        box(-0.3, eaves, 0.92, 0.86),
        polygon((-0.36, eaves + 0.04), (-0.1, eaves - 0.34), (0.76, eaves - 0.34), (0.99, eaves + 0.04), tone="dark"),
        box(-0.74, -0.3, -0.24, 0.86),
        polygon((-0.82, -0.26), (-0.49, -0.84), (-0.16, -0.26), tone="dark"),
        stroke((-0.49, -0.78), (-0.49, -1.0), width=0.06, tone="ink"),
        stroke((-0.6, -0.92), (-0.38, -0.92), width=0.06, tone="ink"),
        ellipse(-0.49, -0.08, 0.11, 0.11, "glass"),
        box(-0.6, 0.44, -0.38, 0.86, "wood"),
        *(box(left, eaves + 0.24, left + 0.15, eaves + 0.54, "glass") for left in (0.02, 0.36, 0.68)),
    )


def castle(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a wall between two towers, all with battlements, and an arched gate."""
    top = random.uniform(-0.7, -0.5)
    teeth = tuple(box(left, top - 0.2, left + 0.14, top + 0.02, "dark") for left in (-0.96, -0.68, 0.54, 0.82))
    wall = tuple(box(left, -0.26, left + 0.14, -0.06, "dark") for left in (-0.35, -0.07, 0.21))
    return (
        box(-0.5, -0.1, 0.5, 0.82),
        *wall,
        box(-0.96, top, -0.5, 0.86),
        box(0.5, top, 0.96, 0.86),
        *teeth,
        box(-0.8, top + 0.24, -0.66, top + 0.54, "ink"),
        box(0.66, top + 0.24, 0.8, top + 0.54, "ink"),
        ellipse(0.0, 0.4, 0.22, 0.24, "ink"),
        box(-0.22, 0.4, 0.22, 0.84, "ink"),
    )


def windmill(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a tapered tower with a cap and four sails at a random turn."""
    turn = random.uniform(0.0, math.pi / 2)
    sails: list[Part] = []
    for quarter in range(4):
        angle = turn + quarter * math.pi / 2
        x, y = math.cos(angle), math.sin(angle)
        sails.append(stroke((0.0, -0.32), (0.66 * x, -0.32 + 0.66 * y), width=0.07, tone="wood"))
        sails.append(
            stroke((0.2 * x - 0.08 * y, 0.2 * y + 0.08 * x - 0.32), (0.64 * x - 0.08 * y, 0.64 * y + 0.08 * x - 0.32),
                   width=0.17, tone="pale")
        )  # fmt: skip
    return (
        polygon((-0.26, -0.36), (0.26, -0.36), (0.44, 0.92), (-0.44, 0.92)),
        ellipse(0.0, -0.38, 0.28, 0.22, "dark"),
        box(-0.13, 0.56, 0.13, 0.92, "wood"),
        box(-0.1, 0.12, 0.1, 0.34, "glass"),
        *sails,
        ellipse(0.0, -0.32, 0.08, 0.08, "ink"),
    )
