"""Small charts as inline SVG. Sizes are shares of the width and the words stay outside, so they read on any screen."""

import math

from markupsafe import Markup

from clip_unlearn.core.record import Reading
from clip_unlearn.report.comparisons import Comparison

_HEIGHT = 22
_BAR = 8

_SVG = Markup('<svg class="bars" width="100%" height="{height}" role="img" aria-label="{label}">{content}</svg>')
_RECT = Markup('<rect class="{kind}" x="0" y="{y}" width="{width}" height="{height}" rx="1.5"/>')
_LINE = Markup('<line class="{kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>')
_TEXT = Markup('<text x="{x}" y="11" text-anchor="{anchor}">{text}</text>')


def bars(comparison: Comparison, *, label: str) -> Markup:
    """Return two bars on a scale from 0 to 1, before above after, and the interval of the latter as a line.

    Values outside the scale are cut; a reading that is missing or not a number has no bar.
    """
    parts = [_grid()]
    if comparison.before is not None:
        parts.append(_bar("before", comparison.before, 2))
    if comparison.after is not None:
        parts.append(_bar("after", comparison.after, 12))
        parts.append(_whisker(comparison.after, 12 + _BAR // 2))
    return _SVG.format(height=_HEIGHT, label=label, content=Markup().join(parts))


def gauge(comparison: Comparison, *, label: str) -> Markup:
    """Return one bar for the edited model on a scale from 0 to 1, with a tick where the model was before."""
    parts = [Markup('<rect class="track" x="0" y="4" width="100%" height="8" rx="2"/>')]
    if comparison.after is not None:
        parts.append(_bar("after", comparison.after, 4))
    if comparison.before is not None and math.isfinite(comparison.before.value):
        x = _share(comparison.before.value)
        parts.append(_LINE.format(kind="tick", x1=x, x2=x, y1=0, y2=16))
    return _SVG.format(height=16, label=label, content=Markup().join(parts))


def scale() -> Markup:
    """Return the axis above the bars: 0, 50 and 100 per cent."""
    marks = (("0", "0%", "start"), ("50", "50%", "middle"), ("100 %", "100%", "end"))
    content = Markup().join(_TEXT.format(x=x, anchor=anchor, text=text) for text, x, anchor in marks)
    return Markup('<svg class="scale" width="100%" height="14" aria-hidden="true">{}</svg>').format(content)


def _bar(kind: str, reading: Reading, y: int) -> Markup:
    if not math.isfinite(reading.value):
        return Markup()
    return _RECT.format(kind=kind, y=y, width=_share(reading.value), height=_BAR)


def _whisker(reading: Reading, y: int) -> Markup:
    if not (math.isfinite(reading.low) and math.isfinite(reading.high)):
        return Markup()
    return _LINE.format(kind="whisker", x1=_share(reading.low), x2=_share(reading.high), y1=y, y2=y)


def _grid() -> Markup:
    lines = (_LINE.format(kind="grid", x1=x, x2=x, y1=0, y2=_HEIGHT) for x in ("0%", "25%", "50%", "75%", "100%"))
    return Markup().join(lines)


def _share(value: float) -> str:
    return f"{100 * min(1.0, max(0.0, value)):.2f}%"
