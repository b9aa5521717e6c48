"""Numbers as people read them: shares as percentages with one decimal, changes in points, cosines as they are."""

import math

from clip_unlearn.core.record import Reading
from clip_unlearn.report.comparisons import Unit

MINUS = "\N{MINUS SIGN}"
MISSING = "not defined"


def level(reading: Reading, unit: Unit) -> str:
    """Return the value of a model: "98.0 %", "0.9973" or "4.12"."""
    text = _level(reading.value, unit)
    return f"{text} %" if unit == "percent" and text != MISSING else text


def level_interval(reading: Reading, unit: Unit) -> str:
    """Return the interval of a model's value: "(93.1-99.5)"; that of a share ends at 0 and 100 per cent."""
    low, high = (_level(_within(end, 0, unit), unit) for end in (reading.low, reading.high))
    return "" if MISSING in (low, high) else _bracketed(low, high)


def level_line(reading: Reading, unit: Unit) -> str:
    """Return value, interval and count: "0.0 % (0.0-3.6), n = 102"."""
    interval = level_interval(reading, unit)
    return f"{level(reading, unit)}{' ' if interval else ''}{interval}, n = {whole(reading.count)}"


def change(reading: Reading, unit: Unit) -> str:
    """Return a signed change: shares in percentage points, everything else as it is."""
    text = _signed(reading.value, unit)
    return f"{text} points" if unit == "percent" and text != MISSING else text


def change_interval(reading: Reading, unit: Unit) -> str:
    """Return the interval of a signed change, in the same unit; that of a share ends at 100 points."""
    low, high = (_signed(_within(end, -1, unit), unit) for end in (reading.low, reading.high))
    return "" if MISSING in (low, high) else f"({low} to {high})"


def probability(value: float | None) -> str:
    """Return a p-value with two significant digits, "< 0.0001" below that, "" where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def whole(count: int) -> str:
    """Return a count with thousands apart: "2,346"."""
    return f"{count:,}"


def seconds(value: float) -> str:
    """Return a duration: "0.42 s", "31 s", "12 min 5 s"."""
    if not math.isfinite(value):
        return MISSING
    if value < 10:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _within(value: float, lowest: float, unit: Unit) -> float:
    """Return a share cut to what is possible: Student's interval of a mean near 1 does not know that 1 is the end."""
    return min(1.0, max(lowest, value)) if unit == "percent" and math.isfinite(value) else value


def _level(value: float, unit: Unit) -> str:
    if not math.isfinite(value):
        return MISSING
    text = f"{100 * value:.1f}" if unit == "percent" else _decimals(value, unit)
    return _proper_minus(text)


def _signed(value: float, unit: Unit) -> str:
    text = _level(value, unit)
    zero = text == MISSING or not text.strip(f"0.{MINUS}")
    return text if zero or text.startswith(MINUS) else f"+{text}"


def _decimals(value: float, unit: Unit) -> str:
    return f"{value:.4f}" if unit == "cosine" else f"{value:.4g}"


def _proper_minus(text: str) -> str:
    """Return the text with a typographic minus; a rounded "-0.0" is zero and has no sign."""
    if not text.startswith("-"):
        return text
    return f"{MINUS}{text[1:]}" if text.strip("-0.") else text[1:]


def _bracketed(low: str, high: str) -> str:
    return f"({low} to {high})" if MINUS in f"{low}{high}" else f"({low}-{high})"
