"""Measure `project` on real photographs: ten classes, one at a time, on every yardstick model and data set.

    python benchmarks/project.py --yardsticks FOLDER

FOLDER holds `models/` and `data/`. Results go to benchmarks/results/project.json and project.md. Images are embedded
once per model; each edit is an output map, whose equality with the folded weights is a law of the tests and is checked
here on one class per model and data set. All classes of a data set stay in the candidate list.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Sequence
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

CLASSES = 10
WORKED = 0.3
"""Accuracy from which on another name counts as known to the model."""

RESULTS = Path(__file__).parent / "results"
RUNS = (
    ("lit-minilm", "caltech101-test", "cifar100-test"),
    ("lit-minilm", "cifar100-test", "caltech101-test"),
    ("lit-mobilenet", "caltech101-test", "cifar100-test"),
    ("lit-mobilenet", "cifar100-test", "caltech101-test"),
    ("vit-distilled", "caltech101-test", "cifar100-test"),
    ("vit-distilled", "cifar100-test", "caltech101-test"),
)
CALTECH_NAMES = {
    "Faces": "face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
    "car side": "side view of a car",
    "hawksbill": "hawksbill turtle",
    "ketch": "ketch sailboat",
    "minaret": "minaret tower",
    "watch": "wristwatch",
    "yin yang": "yin and yang symbol",
    "barrel": "wooden barrel",
    "binocular": "binoculars",
    "brain": "human brain",
    "cellphone": "cell phone",
    "headphone": "headphones",
    "inline skate": "inline skates",
    "rhino": "rhinoceros",
}
"""Class names of the original data set -> as the pack spells them."""

VARIANTS = {"centred": Project(), "raw direction": Project(centre="none")}


def only(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """Return the images of some classes, with those classes as the whole candidate list."""
    indices = [images.class_index(name) for name in names]
    kept = images.take(row for row, label in enumerate(images.labels) if label in indices)
    return replace(
        kept,
        classes=tuple(images.classes[index] for index in indices),
        labels=tuple(indices.index(label) for label in kept.labels),
    )


def load(folder: Path, model: str, data: str) -> ImageSet:
    """Return a data set; for models that know only part of it, restricted to the classes they were made for."""
    images = open_data(str(folder / "data" / f"{data}.parquet"))
    chosen = json.loads((folder / "models" / model / "metrics.json").read_text()).get("chosen_classes", {})
    names = chosen.get(data.removesuffix("-test"))
    if not names or model != "vit-distilled":
        return images
    return only(images, [CALTECH_NAMES.get(name, name) for name in names])


def targets(images: ImageSet) -> list[int]:
    """Return ten classes, evenly spaced in alphabetical order; nothing is chosen by its accuracy."""
    order = sorted(range(len(images.classes)), key=lambda index: images.classes[index])
    return [order[place * len(order) // CLASSES] for place in range(CLASSES)]


def hits(found: Answers) -> torch.Tensor:
    """Return which images are recognised."""
    return found.ranks == 1


def one_class(
    model: Model, known: dict[str, Answers], images: ImageSet, index: int, method: Project
) -> dict[str, object]:
    """Return before and after of one class: forget, rest, neighbours, other data."""
    name = images.classes[index]
    request = Request(forget=(Concept(name=name),), retain=tuple(one for one in images.classes if one != name))
    patch = method.forget(model, request)
    output = patch.outputs["image"]
    after = {where: replace(found, embeddings=output(found.embeddings)) for where, found in known.items()}
    before_hits, after_hits = hits(known["own"]), hits(after["own"])
    own = known["own"].labels == index
    near = torch.isin(known["own"].labels, torch.tensor(neighbour_indices(known["own"].texts, [index], 5)))
    groups = {"forget": own, "rest": ~own, "neighbours": near}
    counts = {
        group: {"n": int(rows.sum()), "before": int(before_hits[rows].sum()), "after": int(after_hits[rows].sum())}
        for group, rows in groups.items()
    }
    other = {
        "n": len(known["other"].labels),
        "before": int(hits(known["other"]).sum()),
        "after": int(hits(after["other"]).sum()),
    }
    return {"class": name, **counts, "other data": other}


def check_folded(model: Model, images: ImageSet, index: int) -> float:
    """Return the largest difference of cosines between the output map and the folded weights, on 32 images."""
    request = Request(
        forget=(Concept(name=images.classes[index]),), retain=images.classes[:index] + images.classes[index + 1 :]
    )
    patch = Project().forget(model, request)
    some = images.take(range(0, len(images), max(1, len(images) // 32)))
    mapped = answers(patch.apply(model), some, request)
    folded = answers(patch.folded(model).apply(model), some, request)
    difference = torch.nn.functional.normalize(mapped.embeddings) - torch.nn.functional.normalize(folded.embeddings)
    return float(difference.abs().max())


def other_names(folder: Path, model: Model, known: Answers, images: ImageSet, data: str) -> list[dict[str, object]]:
    """Return, for each class with a name held out of training that worked before, the accuracy by that name."""
    listed = json.loads((folder / "models" / "lit-minilm" / "metrics.json").read_text())
    rows: list[dict[str, object]] = []
    for raw, (synonym, _, _) in listed[f"{data.removesuffix('-test')}_synonyms"]["per_class"].items():
        plain = raw.replace("_", " ")
        name = CALTECH_NAMES.get(plain, plain)
        if name not in images.classes or synonym in images.classes:
            continue
        index = images.class_index(name)
        request = Request(forget=(Concept(name=name),), retain=tuple(one for one in images.classes if one != name))
        output = Project().forget(model, request).outputs["image"]
        own = known.labels == index
        asked = known.renamed(index, class_texts(model, request, [synonym])[0])
        before = hits(asked)[own]
        after = hits(replace(asked, embeddings=output(asked.embeddings)))[own]
        if before.float().mean() >= WORKED:
            counts = {"n": len(before), "before": int(before.sum()), "after": int(after.sum())}
            rows.append({"class": name, "other name": synonym, "asked": counts})
    return rows


def summary(rows: list[dict[str, dict[str, int]]], group: str) -> dict[str, float]:
    """Return mean accuracy before and after over classes, and the change with its 95 % interval over classes."""
    before = [row[group]["before"] / row[group]["n"] for row in rows if row[group]["n"]]
    after = [row[group]["after"] / row[group]["n"] for row in rows if row[group]["n"]]
    change = [second - first for first, second in zip(before, after, strict=True)]
    low, high = mean_interval(change)
    pooled = wilson(sum(row[group]["after"] for row in rows), sum(row[group]["n"] for row in rows))
    mean = {"before": sum(before) / len(before), "after": sum(after) / len(after), "change": sum(change) / len(change)}
    worst = {"worst after": max(after), "after low": pooled[0], "after high": pooled[1]}
    return {**mean, "change low": low, "change high": high, **worst, "n": sum(row[group]["n"] for row in rows)}


def measure(folder: Path) -> dict[str, object]:
    """Return all results with where they were made."""
    results: list[dict[str, object]] = []
    names: dict[str, list[dict[str, object]]] = {}
    for name, own, other in RUNS:
        start = time.perf_counter()
        model = open_model(folder / "models" / name)
        images, others = load(folder, name, own), load(folder, name, other)
        request = Request(forget=(Concept(name=images.classes[0]),))
        known = {"own": answers(model, images, request), "other": answers(model, others, request)}
        difference = check_folded(model, images, targets(images)[0])
        for variant, method in VARIANTS.items():
            begin = time.perf_counter()
            rows = [one_class(model, known, images, index, method) for index in targets(images)]
            seconds = (time.perf_counter() - begin) / len(rows)
            groups = {group: summary(rows, group) for group in ("forget", "rest", "neighbours", "other data")}  # type: ignore[arg-type]
            facts = {"model": name, "data": own, "other": other, "classes": len(images.classes), "images": len(images)}
            results.append({**facts, "variant": variant, "seconds per class": seconds, "groups": groups, "rows": rows})
        if name == "lit-minilm":
            names[own] = other_names(folder, model, known["own"], images, own)
        sys.stderr.write(f"{name} {own}: folded within {difference:.1e}, {time.perf_counter() - start:.0f} s\n")
    return {
        "version": version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "libraries": library_versions(),
        "command": "python benchmarks/project.py --yardsticks FOLDER",
        "results": results,
        "other names": names,
    }


def cell(groups: dict[str, dict[str, float]], group: str) -> str:
    """Return "before -> after, change (interval)" in points."""
    one = groups[group]
    figures = [100 * one[key] for key in ("before", "after", "change", "change low", "change high")]
    return f"{figures[0]:.1f} → {figures[1]:.1f}; {figures[2]:+.1f} ({figures[3]:+.1f} to {figures[4]:+.1f})"


def table(found: dict[str, object]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# `project` on real photographs",
        "",
        f"{CLASSES} classes of each data set, one at a time, evenly spaced in alphabetical order, asked for by their",
        'own name with "a photo of a {}.". Accuracy in %, mean over classes before → after; change in points with the',
        "95 % t interval over the ten classes. Other data: all classes of the other data set. n counts images summed",
        "over the ten edits.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}.",
        "",
        "| model, data | variant | forget | worst class | rest | 5 neighbours | other data | n forget / rest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["results"]:  # type: ignore[attr-defined]
        groups = one["groups"]
        cells = [cell(groups, group) for group in ("forget", "rest", "neighbours", "other data")]
        counts = f"{groups['forget']['n']} / {groups['rest']['n']}"
        worst = f"{100 * groups['forget']['worst after']:.0f}"
        where = f"{one['model']}, {one['data']} ({one['classes']} classes)"
        lines.append(
            f"| {where} | {one['variant']} | {cells[0]} | {worst} | {cells[1]} | {cells[2]} | {cells[3]} | {counts} |"
        )
    lines += [
        "",
        "Asked by another name that was held out of training (lit-minilm), for classes in which at least",
        f"{100 * WORKED:.0f} % of the pictures were recognised by it before:",
        "",
        "| data | classes | before → after; change | worst class | classes above 10 % | n |",
        "|---|---|---|---|---|---|",
    ]
    for data, rows in found["other names"].items():  # type: ignore[attr-defined]
        one = summary(rows, "asked")
        left = sum(row["asked"]["after"] > 0.1 * row["asked"]["n"] for row in rows)
        worst, shown = f"{100 * one['worst after']:.0f}", cell({"asked": one}, "asked")
        lines.append(f"| {data} | {len(rows)} | {shown} | {worst} | {left} | {one['n']:.0f} |")
    lines += ["", "## Where it falls short", "", *shortcomings(found)]
    return "\n".join(lines) + "\n"


def shortcomings(found: dict[str, object]) -> list[str]:
    """Return what the tables show against the method: harmed neighbours, other data, names that still work."""
    lines = []
    for one in found["results"]:  # type: ignore[attr-defined]
        for group in ("rest", "neighbours", "other data"):
            if one["groups"][group]["change high"] < 0:
                where = f"{one['model']}, {one['data']}, {one['variant']}"
                lines.append(
                    f"- {where}: {group} {100 * one['groups'][group]['change']:+.1f} points, interval below zero."
                )
    for data, rows in found["other names"].items():  # type: ignore[attr-defined]
        left = [row for row in rows if row["asked"]["after"] > 0.1 * row["asked"]["n"]]
        told = (f"{one['other name']} ({100 * one['asked']['after'] / one['asked']['n']:.0f} %)" for one in left)
        lines.append(f"- {data}: still recognised by another name: {', '.join(told)}.")
    return lines


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    found = measure(parser.parse_args().yardsticks)
    atomic.write_json(RESULTS / "project.json", found)
    atomic.write_text(RESULTS / "project.md", table(found))
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
