"""Tables and figure of the closed forms' results. No measuring."""

from collections.abc import Sequence
from typing import Any

from clip_unlearn.maths.intervals import mean_interval

Row = dict[str, Any]
GOALS = (
    ("true name at most 0.5 %", "forget", 0.5),
    ("held-out names at most 1 % on average", "held-out", 1.0),
    ("rest not more than 0.1 points lower", "rest", -0.1),
    ("5 neighbours not more than 0.5 points lower", "neighbours", -0.5),
    ("other data not more than 0.15 points lower", "other data", -0.15),
)


def share(counts: Row, which: str) -> float:
    """Return the accuracy before or after, in percent."""
    return 100.0 * int(counts[which]) / int(counts["n"])


def after(rows: Sequence[Row], group: str) -> list[float]:
    """Return the accuracy after the edit, class by class, in percent."""
    return [share(row[group], "after") for row in rows]


def changes(rows: Sequence[Row], group: str) -> list[float]:
    """Return the change of accuracy in points, class by class."""
    return [share(row[group], "after") - share(row[group], "before") for row in rows if row.get(group)]


def held_out(rows: Sequence[Row]) -> list[float]:
    """Return the accuracy by the worst held-out name, for every class with one that worked before."""
    named = [row["held-out names"] for row in rows if row.get("held-out names")]
    return [max(share(counts, "after") for counts in names.values()) for names in named]


def worst_wording(rows: Sequence[Row]) -> list[float]:
    """Return the accuracy by the worst of all wordings that worked before, class by class."""
    named = [row["wordings"] for row in rows if row["wordings"]]
    return [max(share(counts, "after") for counts in names.values()) for names in named]


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def spread(values: Sequence[float], *, signed: bool = True) -> str:
    """Return the mean with its 95 % t interval over classes."""
    if not values:
        return "–"
    low, high = mean_interval(list(values))
    sign = "+" if signed else ""
    return f"{mean(values):{sign}.2f} ({low:{sign}.2f} to {high:{sign}.2f})"


def single_row(label: str, rows: Sequence[Row]) -> str:
    """Return one line of the table of single classes."""
    other, wordings, tried = held_out(rows), worst_wording(rows), [len(row["wordings"]) for row in rows]
    over = f"{sum(value > 10 for value in other)}/{len(other)}" if other else "–"
    cells = [
        f"{mean(after(rows, 'forget')):.2f} (worst {max(after(rows, 'forget')):.0f})",
        f"{mean(other):.2f}; {over}" if other else "–",
        f"{mean(wordings):.1f}; {sum(value > 10 for value in wordings)}/{len(wordings)} of {mean(tried):.0f} names",
        spread(changes(rows, "rest")),
        spread(changes(rows, "neighbours")),
        spread(changes(rows, "other data")),
        f"{mean([row['AUC'] for row in rows]):.2f}",
        f"{1000 * mean([row['seconds'] for row in rows]):.0f}",
    ]
    return f"| {label} | " + " | ".join(cells) + " |"


def joint_cell(rows: Sequence[Row]) -> str:
    """Return forget after and change of rest for one size of joint requests."""
    return f"{mean(after(rows, 'forget')):.2f}; {spread(changes(rows, 'rest'))}; {spread(changes(rows, 'other data'))}"


def section(result: Row) -> list[str]:
    """Return the tables of one model and data set."""
    order = sorted(result["methods"], key=lambda label: ORDER.index(label) if label in ORDER else len(ORDER))
    methods = {label: result["methods"][label] for label in order if "single" in result["methods"][label]}
    count = len(next(iter(methods.values()))["single"])
    before = mean([share(row["forget"], "before") for row in next(iter(methods.values()))["single"]])
    others = ", ".join(result["other data"]) or "none"
    lines = [
        f"## {result['model']}, {result['data']}",
        "",
        f"{count} of {result['classes']} classes, one at a time; {result['images']} images; other data: {others}.",
        f"Accuracy on the classes before: {before:.1f} %.",
        "",
        "| method | forget, % | held-out names, %; classes above 10 % | worst wording, %; classes above 10 % "
        "| rest, pt | 5 neighbours, pt | other data, pt | AUC | ms |",
        "|---|---|---|---|---|---|---|---|---|",
        *(single_row(label, found["single"]) for label, found in methods.items()),
    ]
    for label, found in result["methods"].items():
        if "refused" in found:
            lines.append(f"\n`{label}` refused: {found['refused']}")
    together = {label: found["joint"] for label, found in methods.items() if found["joint"]}
    if together:
        sizes = list(next(iter(together.values())))
        lines += ["", "Joint requests, five draws each: forget in %; rest in points; other data in points.", ""]
        lines.append("| method | " + " | ".join(f"{size} classes" for size in sizes) + " |")
        lines.append("|---|" + "---|" * len(sizes))
        for label, joint in together.items():
            lines.append(f"| {label} | " + " | ".join(joint_cell(joint[size]) for size in sizes) + " |")
    return [*lines, ""]


def goals(found: Row) -> list[str]:
    """Return which of the goals the default method reaches, with the figures."""
    lines = ["## The default against its goals", ""]
    for result in found["results"]:
        rows = result["methods"]["redirect"]["single"]
        where = f"{result['model']}, {result['data']}"
        figures = {
            "forget": after(rows, "forget"),
            "held-out": held_out(rows),
            **{group: changes(rows, group) for group in ("rest", "neighbours", "other data")},
        }
        for text, group, limit in GOALS:
            if figures[group]:
                value = mean(figures[group])
                reached = value <= limit if limit > 0 else value >= limit
                lines.append(f"- {where}: {text}: {'reached' if reached else '**missed**'} ({value:+.2f}).")
    return lines


def table(found: Row) -> str:
    """Return the results as Markdown."""
    head = [
        "# Closed forms, measured",
        "",
        'Asked by "a photo of a {}."; every method at its defaults, with the other classes as names to retain,',
        "other names from the thesaurus and the nouns as background. Means over classes; changes with the 95 % t",
        "interval over classes (over draws for joint requests). Held-out names: names on which the model was never",
        "trained, unknown to thesaurus and background in that edit. Worst wording: the worst of the name, its plural,",
        "misspellings, other names and phrases. Only wordings that found 30 % of the pictures before count. Other",
        "data: without classes that are the forgotten thing. AUC: how well the name ranks its own pictures after the",
        "edit; at .5 the name says nothing. ms: time of one edit, embeddings of names given.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
    ]
    body = [line for result in found["results"] for line in section(result)]
    return "\n".join([*head, *body, *goals(found)]) + "\n"


COLOURS = ("#0b6e4f", "#5aa17f", "#8a6fb0", "#c05a2b", "#e0a030", "#777777", "#2f6fb0", "#b03060")


def figure(found: Row) -> str:
    """Return an SVG: other names that still work (down is better) against loss on other data (right is better)."""
    panels = [one for one in found["results"] if one["model"] == "lit-minilm"]
    width, height = 430, 330
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * len(panels)}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width * len(panels)}" height="{height}" fill="white"/>',
    ]
    for place, result in enumerate(panels):
        parts += panel(result, place * width, width, height)
    return "\n".join([*parts, "</svg>"]) + "\n"


OFF = -1.0
"""Points on other data below which a method is named beside the chart instead of stretching it."""

ORDER = ("redirect", "redirect, strength 1", "redirect, text side", "ccup", "ccup, convention C", "project")
"""Methods in the order of the tables; others follow."""


def panel(result: Row, left: int, width: int, height: int) -> list[str]:
    """Return the marks of one data set."""
    points = [
        (label, mean(changes(one["single"], "other data")), mean(held_out(one["single"])))
        for label, one in result["methods"].items()
        if "single" in one
    ]
    off, points = [one for one in points if one[1] < OFF], [one for one in points if one[1] >= OFF]
    lowest = min(-0.3, *(x for _, x, _ in points))
    highest = max(5.0, *(y for _, _, y in points))
    x0, y0, wide, tall = left + 50, 40, width - 190, height - 90
    parts = [
        f'<text x="{x0}" y="20" font-weight="bold">{result["model"]}, {result["data"]}</text>',
        f'<line x1="{x0}" y1="{y0 + tall}" x2="{x0 + wide}" y2="{y0 + tall}" stroke="#999"/>',
        f'<line x1="{x0}" y1="{y0}" x2="{x0}" y2="{y0 + tall}" stroke="#999"/>',
        f'<text x="{x0}" y="{y0 + tall + 16}">{lowest:.2f}</text>',
        f'<text x="{x0 + wide}" y="{y0 + tall + 16}" text-anchor="end">0</text>',
        f'<text x="{x0}" y="{y0 + tall + 32}">other data, points (right is better)</text>',
        f'<text x="{x0 - 6}" y="{y0 + tall}" text-anchor="end">0</text>',
        f'<text x="{x0 - 6}" y="{y0 + 8}" text-anchor="end">{highest:.0f}</text>',
        f'<text x="{x0}" y="{y0 - 6}">held-out names still recognised, % (down is better)</text>',
    ]
    for place, (label, x, y) in enumerate(off):
        told = f"off the chart: {label} ({x:.1f}, {y:.1f} %)"
        parts.append(f'<text x="{x0}" y="{y0 + tall + 46 + 12 * place}" font-size="10">{told}</text>')
    for place, (label, x, y) in enumerate(points):
        across = x0 + wide * (1 - min(0.0, x) / lowest)
        down = y0 + tall * (1 - y / highest)
        parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="5" fill="{COLOURS[place]}"/>')
        parts.append(f'<circle cx="{x0 + wide + 15}" cy="{y0 + 8 + 18 * place}" r="5" fill="{COLOURS[place]}"/>')
        parts.append(f'<text x="{x0 + wide + 25}" y="{y0 + 12 + 18 * place}">{label}</text>')
    return parts
