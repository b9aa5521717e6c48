"""Measure the three modes of `domain`: class by domain, before and after, on drawn pictures and on real images.

    python benchmarks/domain.py --yardsticks FOLDER

FOLDER holds `models/` and `data/`. Results go to benchmarks/results/domain.json and domain.md. One class at a time; all
classes stay in the candidate list and are asked for with "a photo of a {}.". Settings were chosen on the sandbox's
`select` pictures, which are not those measured here, and with the PACS images in view, which are.
"""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.files import atomic
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.intervals import wilson
from clip_unlearn.maths.scores import cosines
from clip_unlearn.methods.domain import Domain
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASSES
from clip_unlearn.synthesis.ascend import Ascent

Count: TypeAlias = dict[str, int]
Row: TypeAlias = dict[str, Any]

RESULTS = Path(__file__).parent / "results"
WORKED = 0.3
"""Accuracy in the forgotten cell from which on another name counts as known to the model."""

WORDS = {"art painting": "painting"}
"""Domain in the data -> word in a prompt, where they differ."""

PACS_NAMES = {"dog": "hound", "elephant": "pachyderm", "horse": "pony", "house": "cottage", "person": "man"}
SANDBOX_NAMES = {one.name: one.synonyms[0] for one in CLASSES}
"""Another name of each class, which no request gives."""

SHOWN = ("mug", "cat", "car", "apple", "hammer", "shirt", "house")
"""Classes of the sandbox that the page shows one by one."""

FEW: dict[str, Any] = {"pictures": 2, "ascent": Ascent(steps=20, batch=16)}
"""Settings of canonical pictures that a larger model makes in seconds instead of minutes."""

MODES = ("class_in_domain", "domain_complete")
GROUPS = ("forgotten", "other name", "class elsewhere", "others there", "others elsewhere")


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A model, what it makes of pictures of classes in domains, and what is to be tried on it."""

    title: str
    model: Model
    classes: tuple[str, ...]
    domains: tuple[str, ...]
    labels: Tensor
    places: Tensor
    vectors: Tensor
    texts: Tensor
    names: dict[str, str]
    shown: tuple[str, ...]
    pictured: tuple[tuple[str, str | None], ...]
    """Modes and domains that are measured with canonical pictures too, on the classes shown."""

    ascent: dict[str, Any]
    """How those are made, where not by default."""

    def right(self, vectors: Tensor, texts: Tensor) -> Tensor:
        """Return which pictures are recognised."""
        return cosines(vectors, texts).argmax(1) == self.labels


def rows(model: Model, names: Sequence[str]) -> Tensor:
    """Return the classifier row of each name."""
    with torch.no_grad():
        return model.texts([f"a photo of a {name}." for name in names])


def open_bed(title: str, where: str, data: str, names: dict[str, str], **rest: Any) -> Bed:  # noqa: ANN401
    """Return a test bed with its pictures embedded."""
    model, images = open_model(where), open_data(data)
    domains = tuple(dict.fromkeys(images.domains))
    return Bed(
        title=title,
        model=model,
        classes=images.classes,
        domains=tuple(WORDS.get(one, one) for one in domains),
        labels=torch.tensor(images.labels),
        places=torch.tensor([domains.index(one) for one in images.domains]),
        vectors=embed_images(model, images).vectors,
        texts=rows(model, images.classes),
        names=names,
        shown=rest.get("shown", images.classes),
        pictured=rest.get("pictured", ()),
        ascent=rest.get("ascent", {}),
    )


def beds(folder: Path) -> list[Bed]:
    """Return the three test beds."""
    drawn = tuple(("class_in_domain", word) for word in ("photo", "painting", "sketch"))
    real: tuple[tuple[str, str | None], ...] = (("class", None), *((mode, "photo") for mode in MODES))
    pacs = ("PACS, lit-minilm", str(folder / "models" / "lit-minilm"), str(folder / "data" / "pacs-dev.parquet"))
    return [
        open_bed("sandbox, sandbox", "sandbox", "sandbox", SANDBOX_NAMES, shown=SHOWN, pictured=drawn),
        open_bed("sandbox, sandbox-conv", "sandbox-conv", "sandbox", SANDBOX_NAMES, shown=SHOWN),
        open_bed(*pacs, PACS_NAMES, pictured=real, ascent=FEW),
    ]


def count(before: Tensor, after: Tensor, mask: Tensor) -> Count:
    """Return how many of the pictures are recognised before and after."""
    return {"n": int(mask.sum()), "before": int(before[mask].sum()), "after": int(after[mask].sum())}


def one_class(bed: Bed, name: str, method: Domain) -> Row:
    """Return before and after of one class: by domain, in groups, and asked by another name."""
    request = Request(forget=(Concept(name=name),), retain=tuple(one for one in bed.classes if one != name))
    output: AffineMap = method.forget(bed.model, request).outputs["image"]
    edited = output(bed.vectors)
    before, after = bed.right(bed.vectors, bed.texts), bed.right(edited, bed.texts)
    own = bed.labels == bed.classes.index(name)
    places = [bed.places == number for number in range(len(bed.domains))]
    there = torch.ones_like(own) if method.domain is None else places[bed.domains.index(method.domain)]
    masks = {
        "forgotten": own & there,
        "class elsewhere": own & ~there,
        "others there": ~own & there,
        "others elsewhere": ~own & ~there,
    }
    row: Row = {group: count(before, after, mask) for group, mask in masks.items()}
    row["cells"] = {word: count(before, after, own & place) for word, place in zip(bed.domains, places, strict=True)}
    if name in bed.names:
        texts = bed.texts.clone()
        texts[bed.classes.index(name)] = rows(bed.model, [bed.names[name]])[0]
        asked = count(bed.right(bed.vectors, texts), bed.right(edited, texts), own & there)
        if asked["before"] >= WORKED * asked["n"]:
            row["other name"] = asked
    return {"class": name, **row}


def measure_bed(bed: Bed) -> list[dict[str, Any]]:
    """Return one entry per mode, domain and source of directions."""
    plain = [("class", None), *((mode, word) for mode in MODES for word in bed.domains)]
    jobs = [
        *((mode, word, {}, bed.classes) for mode, word in plain),
        *((mode, word, {"canonical": "ascent", **bed.ascent}, bed.shown) for mode, word in bed.pictured),
    ]
    found = []
    for mode, word, extra, names in jobs:
        method = Domain.model_validate({"mode": mode, "domain": word, "domains": bed.domains, **extra})
        begin = time.perf_counter()
        measured = [one_class(bed, name, method) for name in names]
        seconds = (time.perf_counter() - begin) / len(names)
        facts = {"bed": bed.title, "mode": mode, "domain": word, "canonical": method.canonical}
        found.append({**facts, "seconds per class": seconds, "groups": pooled(measured), "rows": measured})
        sys.stderr.write(f"{bed.title} {mode} {word} {method.canonical}: {seconds:.2f} s per class\n")
    return found


def pooled(measured: list[Row]) -> dict[str, Count]:
    """Return the counts of every group summed over classes; a group that no class has is left out."""
    sums = {}
    for group in GROUPS:
        counts = [row[group] for row in measured if group in row and row[group]["n"]]
        if counts:
            sums[group] = {key: sum(one[key] for one in counts) for key in ("n", "before", "after")}
    return sums


def cell(one: Count | None, *, with_n: bool = True) -> str:
    """Return "before → after (low to high) n" in percent, with the 95 % Wilson interval of the accuracy after."""
    if one is None:
        return "–"
    before, after = (100 * one[key] / one["n"] for key in ("before", "after"))
    low, high = wilson(one["after"], one["n"])
    return f"{before:.0f} → {after:.0f} ({100 * low:.0f} to {100 * high:.0f})" + (f" n {one['n']}" if with_n else "")


def title(one: dict[str, Any]) -> str:
    """Return what was done, in a few words."""
    where = "" if one["domain"] is None else f", {one['domain']}"
    return f"{one['mode']}{where}{', canonical pictures' if one['canonical'] == 'ascent' else ''}"


def table(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# `domain`: class by domain, before and after",
        "",
        'One class at a time; all classes stay in the candidate list and are asked for with "a photo of a {}.".',
        "Accuracy in %, before → after with the 95 % Wilson interval of the accuracy after. Groups are summed over the",
        "classes: the forgotten cell; the same cell asked by another name that no request gave (classes whose other",
        "name worked before); the class in the other domains; other classes in the chosen domain and elsewhere, where",
        "every picture counts once per edit, so that those intervals are too narrow. Sandbox: all 28 classes,",
        f"`audit` pictures, settings chosen on `select`; with canonical pictures the {len(SHOWN)} classes shown below.",
        "PACS: all 420 images, which were in view when settings were chosen: a fit, not a test; canonical pictures of",
        "2 a cell and 20 steps.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. {found['seconds']:.0f} s in all.",
    ]
    for name in dict.fromkeys(one["bed"] for one in found["results"]):
        mine = [one for one in found["results"] if one["bed"] == name]
        lines += ["", f"## {name}", "", f"| edit | worst class | {' | '.join(GROUPS)} |", "|---" * 7 + "|"]
        lines += [summary(one) for one in mine]
    for name in ("sandbox, sandbox", "PACS, lit-minilm"):
        mine = [one for one in found["results"] if one["bed"] == name]
        domains = list(mine[0]["rows"][0]["cells"])
        lines += ["", f"## Class by domain: {name}", "", f"n {mine[0]['rows'][0]['cells'][domains[0]]['n']} in a cell."]
        lines += ["", f"| edit | class | {' | '.join(domains)} |", "|---" * (2 + len(domains)) + "|"]
        lines += [line for one in mine for line in by_class(one, SHOWN if name.startswith("sandbox") else ())]
    return "\n".join([*lines, "", "## Where it falls short", "", *shortcomings(found)]) + "\n"


def summary(one: dict[str, Any]) -> str:
    """Return the line of one edit."""
    worst = max(row["forgotten"]["after"] / row["forgotten"]["n"] for row in one["rows"])
    return f"| {title(one)} | {100 * worst:.0f} | {' | '.join(cell(one['groups'].get(group)) for group in GROUPS)} |"


def by_class(one: dict[str, Any], shown: Sequence[str]) -> list[str]:
    """Return one line per class, its cells by domain."""
    chosen = [row for row in one["rows"] if not shown or row["class"] in shown]
    return [
        f"| {title(one)} | {row['class']} | {' | '.join(cell(each, with_n=False) for each in row['cells'].values())} |"
        for row in chosen
    ]


def shortcomings(found: dict[str, Any]) -> list[str]:
    """Return what the tables show against the method."""
    lines = []
    for one in found["results"]:
        chance = 1 / (28 if one["bed"].startswith("sandbox") else 7)
        groups = one["groups"]
        left = groups["forgotten"]["after"] / groups["forgotten"]["n"]
        if left > chance:
            lines.append(f"- {one['bed']}, {title(one)}: {100 * left:.0f} % left, above chance ({100 * chance:.0f} %).")
        for group, name in (
            ("class elsewhere", "the class elsewhere"),
            ("others elsewhere", "other classes elsewhere"),
        ):
            part = groups.get(group)
            if part and part["before"] - part["after"] > 0.1 * part["before"]:
                before, after = (100 * part[key] / part["n"] for key in ("before", "after"))
                lines.append(f"- {one['bed']}, {title(one)}: {name} falls from {before:.0f} to {after:.0f} %.")
    return lines


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    begin = time.perf_counter()
    results = [one for bed in beds(parser.parse_args().yardsticks) for one in measure_bed(bed)]
    found = {
        "version": version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "libraries": library_versions(),
        "command": "python benchmarks/domain.py --yardsticks FOLDER",
        "seconds": time.perf_counter() - begin,
        "results": results,
    }
    atomic.write_json(RESULTS / "domain.json", found)
    atomic.write_text(RESULTS / "domain.md", table(found))
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
