"""Animals: cat, rabbit, bird, fish."""

import numpy as np

from clip_unlearn.sandbox.shapes.parts import Part, arc, ellipse, polygon, stroke


def _face(x: float, y: float) -> tuple[Part, ...]:
    return (
        ellipse(x - 0.14, y - 0.04, 0.06, 0.07, "ink"),
        ellipse(x + 0.14, y - 0.04, 0.06, 0.07, "ink"),
        ellipse(x, y + 0.11, 0.06, 0.04, "ink"),
    )


def cat(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a sitting cat: pointed ears, whiskers, a raised tail."""
    wide = random.uniform(0.36, 0.46)
    return (
        arc((0.42, 0.42), (0.42, 0.5), (80, -100), width=0.14, tone="dark"),
        ellipse(0.05, 0.5, wide, 0.46),
        ellipse(-0.18, 0.88, 0.16, 0.1, "light"),
        ellipse(0.2, 0.88, 0.16, 0.1, "light"),
        polygon((-0.48, -0.3), (-0.46, -0.92), (-0.1, -0.6)),
        polygon((0.4, -0.3), (0.4, -0.92), (0.02, -0.6)),
        ellipse(-0.04, -0.28, 0.44, 0.38),
        *_face(-0.04, -0.28),
        stroke((-0.75, -0.22), (-0.25, -0.14), width=0.035, tone="ink"),
        stroke((0.68, -0.22), (0.18, -0.14), width=0.035, tone="ink"),
    )


def rabbit(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a sitting rabbit: two very long ears and a round short tail."""
    lean = random.uniform(-0.08, 0.12)
    return (
        ellipse(0.5, 0.66, 0.17, 0.16, "pale"),
        ellipse(0.04, 0.52, 0.46, 0.44),
        ellipse(-0.2, 0.88, 0.2, 0.1, "light"),
        ellipse(0.24, 0.88, 0.2, 0.1, "light"),
        ellipse(-0.22 + lean, -0.62, 0.12, 0.38),
        ellipse(0.14 + lean, -0.62, 0.12, 0.38),
        ellipse(-0.22 + lean, -0.6, 0.05, 0.28, "pale"),
        ellipse(0.14 + lean, -0.6, 0.05, 0.28, "pale"),
        ellipse(-0.04, -0.12, 0.36, 0.32),
        *_face(-0.04, -0.12),
    )


def bird(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a perching bird seen from the side: beak, wing, tail, thin legs."""
    drop = random.uniform(0.1, 0.3)
    return (
        stroke((-0.05, 0.5), (-0.1, 0.95), width=0.06, tone="ink"),
        stroke((0.15, 0.5), (0.14, 0.95), width=0.06, tone="ink"),
        polygon((0.35, 0.05), (0.98, drop), (0.9, drop + 0.3), (0.3, 0.4), tone="dark"),
        ellipse(0.05, 0.2, 0.5, 0.4),
        polygon((-0.62, -0.5), (-0.99, -0.3), (-0.6, -0.24), tone="gold"),
        ellipse(-0.4, -0.34, 0.3, 0.29),
        polygon((-0.15, 0.0), (0.35, 0.0), (0.62, 0.42), (0.1, 0.42), tone="dark"),
        ellipse(-0.48, -0.4, 0.07, 0.07, "ink"),
    )


def fish(random: np.random.Generator) -> tuple[Part, ...]:
    """Return a fish seen from the side: forked tail, fins, an eye."""
    tall = random.uniform(0.36, 0.5)
    return (
        polygon((0.4, 0.0), (0.98, -0.46), (0.84, 0.0), (0.98, 0.46), tone="dark"),
        polygon((-0.25, -tall * 0.8), (0.1, -tall - 0.28), (0.4, -tall * 0.6), tone="dark"),
        polygon((-0.1, tall * 0.8), (0.18, tall + 0.2), (0.3, tall * 0.7), tone="dark"),
        ellipse(-0.15, 0, 0.72, tall),
        arc((-0.5, 0), (0.16, tall * 0.7), (-70, 70), width=0.06, tone="dark"),
        arc((-0.1, 0), (0.14, tall * 0.6), (-60, 60), width=0.05, tone="light"),
        arc((0.14, 0), (0.12, tall * 0.5), (-60, 60), width=0.05, tone="light"),
        ellipse(-0.6, -0.1, 0.09, 0.09, "pale"),
        ellipse(-0.61, -0.1, 0.05, 0.05, "ink"),
    )
