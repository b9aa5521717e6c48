"""What was tried as a plot: forget accuracy to the right, retain accuracy upwards. A self-contained SVG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

from markupsafe import Markup

WIDTH: Final = 720
HEIGHT: Final = 460
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 78, 56
"""Margins around the plot."""

TICKS: Final = 5
"""About how many numbers stand at an axis."""

_STYLE: Final = Markup(
    "text{font:13px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:15px}.small{font-size:12px}"
    ".grid{stroke:#e4e4e4}.budget{stroke:#b3541e;stroke-dasharray:5 4}.front{fill:none;stroke:#2a6f97;stroke-width:1.5}"
    ".other{fill:#b9c4cc}.on-front{fill:#2a6f97}.before{fill:#fff;stroke:#333;stroke-width:1.5}"
    ".chosen{fill:none;stroke:#b3541e;stroke-width:2.5}"
)
_TEXT: Final = Markup('<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')
_LINE: Final = Markup('<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
_DOT: Final = Markup('<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"><title>{text}</title></circle>')
_PATH: Final = Markup('<polyline class="front" points="{points}"/>')
_PAGE: Final = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    'role="img" aria-label="{label}"><style>{style}</style><rect width="100%" height="100%" fill="#fff"/>{content}'
    "</svg>"
)


@final
@dataclass(frozen=True, kw_only=True)
class Point:
    """One edit."""

    forget: float
    """Forget accuracy, in [0, 1]."""

    retain: float
    """Retain accuracy, in [0, 1]."""

    text: str
    """What is shown when the pointer is on it."""

    front: bool = False
    chosen: bool = False


@final
@dataclass(frozen=True)
class _Axis:
    """From a number to a place along one axis."""

    ticks: tuple[float, ...]
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def pareto(points: Sequence[Point], before: Point, *, floor: float, title: str, note: str) -> str:
    """Return the plot: every edit, the line through those that no other one beats, the model before, and the budget.

    `floor` is the least retain accuracy within the budget. Both axes go as far as the points do.
    """
    everything = (*points, before)
    across = _Axis(_ticks([0.0, *(one.forget for one in everything)]), LEFT, WIDTH - RIGHT)
    up = _Axis(_ticks([floor, *(one.retain for one in everything)]), HEIGHT - BOTTOM, TOP)
    content = Markup().join(
        [
            _TEXT.format(kind="title", x=16, y=24, anchor="start", text=title),
            _TEXT.format(kind="small", x=16, y=42, anchor="start", text=note),
            *_legend(),
            *_axes(across, up),
            _LINE.format(kind="budget", x1=LEFT, y1=up(floor), x2=WIDTH - RIGHT, y2=up(floor)),
            _front(points, across, up),
            *(_dot(one, across, up) for one in sorted(points, key=lambda one: one.front)),
            _DOT.format(kind="before", x=across(before.forget), y=up(before.retain), r=5, text=before.text),
        ]
    )
    return f"{_PAGE.format(width=WIDTH, height=HEIGHT, label=title, style=_STYLE, content=content)}\n"


def _dot(point: Point, across: _Axis, up: _Axis) -> Markup:
    x, y = across(point.forget), up(point.retain)
    dot = _DOT.format(kind="on-front" if point.front else "other", x=x, y=y, r=4.5, text=point.text)
    return dot + _DOT.format(kind="chosen", x=x, y=y, r=8.5, text=point.text) if point.chosen else dot


def _front(points: Sequence[Point], across: _Axis, up: _Axis) -> Markup:
    """Return the edge of what is reached: level up to the next point, which retains more and forgets less."""
    places = sorted({(one.forget, one.retain) for one in points if one.front})
    steps = pairwise([*places[:1], *places])
    corners = [place for (_, before), (x, after) in steps for place in ((x, before), (x, after))]
    return _PATH.format(points=" ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in corners))


def _axes(across: _Axis, up: _Axis) -> list[Markup]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in across.ticks:
        x = across(tick)
        parts.append(_LINE.format(kind="grid", x1=x, y1=TOP, x2=x, y2=bottom))
        parts.append(_TEXT.format(kind="small", x=x, y=bottom + 18, anchor="middle", text=_percent(tick)))
    for tick in up.ticks:
        y = up(tick)
        parts.append(_LINE.format(kind="grid", x1=LEFT, y1=y, x2=right, y2=y))
        parts.append(_TEXT.format(kind="small", x=LEFT - 8, y=y + 4, anchor="end", text=_percent(tick)))
    middle = (LEFT + right) / 2
    parts.append(
        _TEXT.format(kind="", x=middle, y=HEIGHT - 12, anchor="middle", text="forget accuracy, % (less is better)")
    )
    turned = Markup('<g transform="translate(18 {y:.1f}) rotate(-90)">{text}</g>')
    told = _TEXT.format(kind="", x=0, y=0, anchor="middle", text="retain accuracy, %")
    parts.append(turned.format(y=(TOP + bottom) / 2, text=told))
    return parts


def _legend() -> list[Markup]:
    entries = (("on-front", "beaten by none"), ("other", "beaten"), ("chosen", "chosen"), ("before", "unedited"))
    parts, x = [], 20.0
    for kind, text in entries:
        parts.append(_DOT.format(kind=kind, x=x, y=58, r=5, text=text))
        parts.append(_TEXT.format(kind="small", x=x + 10, y=62, anchor="start", text=text))
        x += 28 + 7 * len(text)
    parts.append(_LINE.format(kind="budget", x1=x, y1=58, x2=x + 24, y2=58))
    parts.append(_TEXT.format(kind="small", x=x + 30, y=62, anchor="start", text="budget"))
    return parts


def _ticks(values: Sequence[float]) -> tuple[float, ...]:
    """Return evenly spaced round numbers from below the least value to above the largest: at least two."""
    low, high = min(values), max(values)
    rough = max(high - low, 0.001) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(place * step for place in range(first, max(last, first + 1) + 1))


def _percent(value: float) -> str:
    return f"{100 * value:.4g}"
