"""Figures of the `lip` benchmarks, as SVG. No measuring."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lip_sandbox_report import change, left, mean

Row = dict[str, Any]
GREEN, GREY, BROWN = "#0b6e4f", "#999999", "#c05a2b"
LINE, LABELS, WIDE, GAP = 18, 190, 240, 40
"""Height of a line, width of the labels and of a panel, space between panels."""

APART = 25
"""Least distance of two numbers on a scale."""

START, NEXT = 130, 430
"""Where the bars of the first tower begin, and how far from there those of the second."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One quantity of every variant: what it is called, its scale, and its value for each class."""

    title: str
    low: float
    high: float
    values: Mapping[str, Sequence[float]]


def variants(groups: Mapping[str, Sequence[Row]]) -> str:
    """Return forget accuracy and change of the rest for every variant: a bar for the mean, a dot for each class."""
    forget = {label: [left(row) for row in rows] for label, rows in groups.items()}
    rest = {label: [change(row) for row in rows] for label, rows in groups.items()}
    lowest = min(-3.0, *(value for values in rest.values() for value in values))
    highest = max(0.5, *(value for values in rest.values() for value in values))
    panels = (
        Panel(title="class still recognised, % (left is better)", low=0, high=100, values=forget),
        Panel(title="rest, points (right is better)", low=lowest, high=highest, values=rest),
    )
    return document(LABELS + len(panels) * (WIDE + GAP), len(groups), variant_parts(list(groups), panels))


def variant_parts(labels: Sequence[str], panels: Sequence[Panel]) -> Iterable[str]:
    """Yield the labels and the marks of all panels."""
    for place, label in enumerate(labels):
        yield text(LABELS - 8, middle(place) + 4, label, anchor="end", bold=place == 0)
    for number, panel in enumerate(panels):
        x = LABELS + number * (WIDE + GAP)
        yield text(x, 18, panel.title, bold=True)
        yield from ticks(panel, x, len(labels))
        for place, label in enumerate(labels):
            yield from marks(panel, x, middle(place), panel.values[label])


def marks(panel: Panel, x: float, y: float, values: Sequence[float]) -> Iterable[str]:
    """Yield the bar from zero to the mean, and one dot for each class."""
    zero, end = across(panel, x, 0), across(panel, x, mean(values))
    yield f'<rect x="{min(zero, end):.1f}" y="{y - 5}" width="{abs(end - zero):.1f}" height="10" fill="#bcdccf"/>'
    for value in values:
        yield f'<circle cx="{across(panel, x, value):.1f}" cy="{y}" r="3" fill="{GREEN}" fill-opacity="0.7"/>'


def ticks(panel: Panel, x: float, lines: int) -> Iterable[str]:
    """Yield the line at zero and the ends of the scale."""
    zero, bottom = across(panel, x, 0), middle(lines) - 4
    yield f'<line x1="{zero:.1f}" y1="26" x2="{zero:.1f}" y2="{bottom}" stroke="{GREY}"/>'
    far = (value for value in (panel.low, panel.high) if abs(across(panel, x, value) - zero) > APART)
    for value in (0.0, *far):
        yield text(across(panel, x, value), bottom + 12, f"{value:.3g}", anchor="middle")


def across(panel: Panel, x: float, value: float) -> float:
    """Return where a value lies."""
    return x + WIDE * (value - panel.low) / (panel.high - panel.low)


def block(tensor: str) -> str:
    """Return the tower, the layer and the kind of a tensor: "image layer 2 mlp"."""
    tower = "text" if tensor.startswith("text") else "image"
    layer = re.search(r"\.layers\.(\d+)\.", tensor)
    kinds = (("mlp", "mlp"), ("self_attn", "attention"), ("norm", "norms"), ("projection", "projection"))
    kind = next((shown for part, shown in kinds if part in tensor), "embedding")
    return f"{tower} layer {layer[1]} {kind}" if layer else f"{tower} {kind}"


def selected(rows: Sequence[Row]) -> str:
    """Return in how many of the runs a tensor of each block was chosen, tower by tower, from the input upward."""
    counts = Counter(part for row in rows for part in {block(tensor) for tensor in row["tensors"]})
    towers = [sorted((part for part in counts if part.startswith(tower)), key=depth) for tower in ("image", "text")]
    return document(
        START + NEXT + WIDE + GAP, max(map(len, towers)), selected_parts(towers, counts, sum(map(changed, rows)))
    )


def changed(row: Row) -> bool:
    """Return True for a run that changed anything."""
    return bool(row["tensors"])


def depth(part: str) -> tuple[int, str]:
    """Return the place of a block: embedding first, then layers, norms after them, projection last."""
    words = part.split(" ")
    return (int(words[2]) if words[1] == "layer" else {"embedding": -1, "norms": 98}.get(words[1], 99)), part


def selected_parts(towers: Sequence[Sequence[str]], counts: Mapping[str, int], runs: int) -> Iterable[str]:
    """Yield the bars of both towers."""
    for number, (tower, parts) in enumerate(zip(("image", "text"), towers, strict=True)):
        x = START + number * NEXT
        yield text(x, 18, f"{tower} tower: chosen for so many of {runs} classes", bold=True)
        for place, part in enumerate(parts):
            wide, y = WIDE * counts[part] / max(1, runs), middle(place)
            yield text(x - 8, y + 4, part.removeprefix(f"{tower} "), anchor="end")
            colour = GREEN if number == 0 else BROWN
            yield f'<rect x="{x}" y="{y - 6}" width="{wide:.1f}" height="12" fill="{colour}"/>'
            yield text(x + wide + 5, y + 4, str(counts[part]))


def middle(place: int) -> int:
    """Return the height of a line's middle."""
    return 40 + LINE * place


def text(x: float, y: float, words: str, *, anchor: str = "start", bold: bool = False) -> str:
    """Return words at a place."""
    weight = ' font-weight="bold"' if bold else ""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{words}</text>'


def document(width: int, lines: int, parts: Iterable[str]) -> str:
    """Return the whole file."""
    height = middle(lines) + 22
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    head += 'font-family="sans-serif" font-size="11">'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>"]) + "\n"
