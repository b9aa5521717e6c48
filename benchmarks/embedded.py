"""Measure `project` on the embedded world: every class, one at a time, on every embedded model.

    python benchmarks/embedded.py

Results go to benchmarks/results/embedded.json and embedded.md. Images are embedded once per model; each edit is an
output map, whose equality with the folded weights is a law of the tests. One command line run per model is timed too.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.answers import Answers, answers, class_texts, neighbour_indices
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.files import atomic
from clip_unlearn.maths.intervals import mean_interval, wilson
from clip_unlearn.methods.project import Project
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox import bundle
from clip_unlearn.sandbox.classes import CLASSES

RESULTS = Path(__file__).parent / "results"
FAMILIES = tuple(name for name in bundle.names() if not name.startswith("oracle-"))


def accuracy(found: Answers, rows: torch.Tensor) -> float:
    """Return the share of chosen images that are recognised."""
    return float((found.ranks[rows] == 1).float().mean())


def one_class(model: Model, before: Answers, images: ImageSet, index: int) -> dict[str, float | str]:
    """Return the accuracy on forget, rest, neighbours, and by the worst synonym, before and after."""
    name = images.classes[index]
    request = Request(forget=(Concept(name=name),), retain=tuple(one for one in images.classes if one != name))
    output = Project().forget(model, request).outputs["image"]
    after = replace(before, embeddings=output(before.embeddings))
    own = before.labels == index
    near = torch.isin(before.labels, torch.tensor(neighbour_indices(before.texts, [index], 5)))
    row: dict[str, float | str] = {"class": name}
    for group, rows in (("forget", own), ("rest", ~own), ("neighbours", near)):
        row[f"{group} before"], row[f"{group} after"] = accuracy(before, rows), accuracy(after, rows)
    texts = class_texts(model, request, CLASSES[index].synonyms)
    for when, found in (("before", before), ("after", after)):
        row[f"worst synonym {when}"] = max(accuracy(found.renamed(index, text), own) for text in texts)
    return row


def seconds(family: str) -> float:
    """Return the wall time of the whole command, nothing cached."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["forget", "--model", family, "--forget", "mug", "--data", "sandbox", "--out", f"{folder}/out"]
        start = time.perf_counter()
        environment = {**os.environ, "CLIP_UNLEARN_CACHE": f"{folder}/cache"}
        subprocess.run(
            [sys.executable, "-m", "clip_unlearn", *arguments], check=True, capture_output=True, env=environment
        )
        return time.perf_counter() - start


def measure() -> dict[str, object]:
    """Return all results with where they were made."""
    images = open_data("sandbox")
    results: dict[str, object] = {}
    for family in FAMILIES:
        model = open_model(family)
        before = answers(model, images, Request(forget=(Concept(name=images.classes[0]),)))
        rows = [one_class(model, before, images, index) for index in range(len(images.classes))]
        results[family] = {"rows": rows, "seconds": seconds(family)}
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    facts = {"version": version(), "machine": machine, "libraries": library_versions(), "images": len(images)}
    return {**facts, "command": "python benchmarks/embedded.py", "results": results}


def table(found: dict[str, object]) -> str:
    """Return the results as Markdown."""
    count = len(CLASSES)
    each = int(found["images"]) // count  # type: ignore[call-overload]
    zero = 100 * wilson(0, each)[1]
    lines = [
        "# `project` on the embedded world",
        "",
        f"{count} classes, one at a time, {each} fresh pictures per class over three domains (0 of {each} is 0 to",
        f"{zero:.1f} %). Accuracy in %, mean over classes, before → after; change in points with the 95 % t interval",
        "over classes, and the worst class. Seconds: one whole command for one class, nothing cached.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}.",
        "",
        "| model | forget | rest | 5 neighbours | worst synonym | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for family, one in found["results"].items():  # type: ignore[attr-defined]
        cells = [cell(one["rows"], group) for group in ("forget", "rest", "neighbours", "worst synonym")]
        lines.append(f"| {family} | {' | '.join(cells)} | {one['seconds']:.1f} |")
    for family, one in found["results"].items():  # type: ignore[attr-defined]
        lines += [
            "",
            f"## {family}",
            "",
            "| class | forget | rest | 5 neighbours | worst synonym |",
            "|---|---|---|---|---|",
        ]
        for row in one["rows"]:
            shown = (
                f"{100 * row[f'{group} before']:.1f} → {100 * row[f'{group} after']:.1f}"
                for group in ("forget", "rest", "neighbours", "worst synonym")
            )
            lines.append(f"| {row['class']} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def cell(rows: list[dict[str, float]], group: str) -> str:
    """Return "before → after; change (interval), worst" of one group."""
    before, after = ([100 * row[f"{group} {when}"] for row in rows] for when in ("before", "after"))
    change = [second - first for first, second in zip(before, after, strict=True)]
    low, high = mean_interval(change)
    worst = max(after) if group in ("forget", "worst synonym") else min(change)
    figures = f"{sum(before) / len(before):.1f} → {sum(after) / len(after):.1f}; {sum(change) / len(change):+.1f}"
    return f"{figures} ({low:+.1f} to {high:+.1f}), worst {worst:+.1f}"


def main() -> None:
    """Measure and write both files."""
    found = json.loads(json.dumps(measure()))
    atomic.write_json(RESULTS / "embedded.json", found)
    atomic.write_text(RESULTS / "embedded.md", table(found))
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
