"""The table of benchmarks/lip_ablation.py. No measuring."""

from collections.abc import Mapping, Sequence

from lip_figures import variants
from lip_sandbox_report import Row, change, codes, failures, left, mean, other_names, score, synthetic


def grouped(found: Row, order: Sequence[str]) -> Mapping[str, Sequence[Row]]:
    """Return the runs of each variant, in an order; a variant of which nothing was run is left out."""
    groups = {label: [row for row in found["runs"].values() if row["variant"] == label] for label in order}
    return {label: rows for label, rows in groups.items() if rows}


def line(label: str, rows: Sequence[Row]) -> str:
    """Return the line of one variant, means over classes."""
    made = [100 * pair[0] / pair[1] for row in rows if (pair := synthetic(row))]
    named = [max(names.values()) for row in rows if (names := other_names(row))]
    cells = [
        str(len(rows)),
        f"{mean([left(row) for row in rows]):.1f}",
        " ".join(f"{left(row):.0f}" for row in rows),
        f"{mean([change(row) for row in rows]):+.2f}",
        f"{min(change(row) for row in rows):+.2f}",
        f"{mean([left(row, 'image tower alone') for row in rows]):.1f}",
        f"{mean([left(row, 'text tower alone') for row in rows]):.1f}",
        f"{mean(made):.0f}" if made else "–",
        f"{mean(named):.1f}" if named else "–",
        f"{mean([score(row) for row in rows]):.3f}",
        f"{mean([row['processor seconds'] for row in rows]):.1f}",
    ]
    return f"| {label} | " + " | ".join(cells) + " |"


def table(found: Row, order: Sequence[str]) -> str:
    """Return the results as Markdown."""
    groups = grouped(found, order)
    classes = [row["class"] for row in max(groups.values(), key=len)]
    lines = [
        "# What each part of `lip` does",
        "",
        f"One setting changed at a time; sandbox, one seed, one class at a time: {', '.join(classes)}. Accuracy of the",
        "class in % on the `audit` stream after the edit, mean and class by class in this order; rest in points, mean",
        "and lowest; accuracy of the class with only the image tower edited, and only the text tower; held-out",
        "synthetic pictures (of `real pictures`: held-out real ones) that are still recognised, in %; the worst other",
        "name that found 30 % before; average score over the class and the rest; processor seconds of the method.",
        "Means over few classes, so without intervals: what one class decides is no difference of methods.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}; {codes(found)}.",
        "",
        "| variant | classes | forget, % | class by class | rest, pt | lowest rest | image tower alone, % "
        "| text tower alone, % | synthetic, % | worst other name, % | average score | seconds |",
        "|---|" + "---|" * 11,
        *(line(label, rows) for label, rows in groups.items()),
        "",
        *failures(list(found["runs"].values()), lambda row: f"{row['variant']}, {row['class']}"),
    ]
    return "\n".join(lines).rstrip() + "\n"


def figure(found: Row, order: Sequence[str]) -> str:
    """Return the figure of all variants."""
    return variants(grouped(found, order))
