"""Tools: hammer, axe, scissors, spoon."""

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, box, ellipse, polygon, ring, stroke


def hammer(random: np.random.Generator) -> tuple[Part, ...]:
    """Return an upright handle below a block with a blunt face and a claw."""
    reach = random.uniform(0.5, 0.6)
    return (
        stroke((0.0, 0.96), (0.0, -0.5), width=0.2),
        box(-0.12, 0.4, 0.12, 0.98, "dark"),
        box(-0.3, -0.8, 0.22, -0.46, "metal"),
        box(-reach, -0.88, -0.28, -0.38, "metal"),
        polygon((0.2, -0.8), (0.5, -0.8), (0.82, -0.5), (0.74, -0.42), (0.48, -0.58), (0.2, -0.5), tone="metal"),
    )


def axe(random: np.random.Generator) -> tuple[Part, ...]:
    """Return an upright handle with a flaring blade on one side."""
    reach = random.uniform(0.62, 0.76)
    return (
        stroke((0.1, 0.96), (0.14, 0.2), (0.1, -0.92), width=0.2),
        polygon((0.2, -0.78), (-0.2, -0.72), (-reach, -0.98), (-reach - 0.1, -0.5), (-reach, 0.04),
                (-0.2, -0.28), (0.2, -0.3), tone="metal"),
        polygon((-reach, -0.98), (-reach - 0.1, -0.5), (-reach, 0.04), (-reach + 0.16, -0.5), tone="pale"),
    )  # fmt: skip


def scissors(random: np.random.Generator) -> tuple[Part, ...]:
    """Return two crossing blades with two finger rings."""
    spread = random.uniform(0.24, 0.42)
    return (
        ring(-0.36, 0.66, 0.24, 0.28, 0.15),
        ring(0.36, 0.66, 0.24, 0.28, 0.15),
        stroke((-0.28, 0.44), (0.0, 0.04), width=0.16),
        stroke((0.28, 0.44), (0.0, 0.04), width=0.16),
        polygon((-0.12, 0.14), (spread, -0.96), (spread + 0.06, -0.7), (0.12, 0.12), tone="metal"),
        polygon((0.12, 0.14), (-spread, -0.96), (-spread - 0.06, -0.7), (-0.12, 0.12), tone="metal"),
        ellipse(0.0, 0.06, 0.08, 0.08, "ink"),
    )


def spoon(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a thin handle that ends in a shallow oval."""
    wide = random.uniform(0.28, 0.36)
    return (
        stroke((0.0, -0.2), (0.0, 0.8), width=0.13),
        ellipse(0.0, 0.84, 0.12, 0.14),
        ellipse(0.0, -0.55, wide, 0.42),
        ellipse(0.02, -0.53, wide - 0.1, 0.3, "dark"),
        ellipse(-0.06, -0.66, 0.07, 0.12, "light"),
    )
