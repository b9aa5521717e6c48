"""Measure `lip` and `lip_paper` on real photographs: ten classes of each data set, one at a time, no setting by class.

    python benchmarks/lip_photographs.py --yardsticks FOLDER [--seeds 3] [--only MODEL]

FOLDER holds `models/` and `data/`. Every run is written as it ends, to benchmarks/results/lip_photographs.json; what is
there is not run again, so the command can be stopped and gone on with. Then lip_photographs.md is made from all of it.

All images of the ten classes, and a fixed random choice of the other classes' images and of another data set's, are
embedded by each edited model; all classes of a data set stay in the candidate list. Both methods get the other classes
as names to retain, other names from the thesaurus and common nouns as background.
"""

import argparse
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from closed_forms import held_out
from lip_photographs_report import table
from lip_runs import RESULTS, alone, opened
from project import load, targets
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.answers import class_texts
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.prepared import pixels_of
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic
from clip_unlearn.maths.scores import cosines
from clip_unlearn.methods.lip import Lip
from clip_unlearn.methods.lip_paper import LipPaper
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed

RUNS = (
    ("lit-minilm", "caltech101-test", "cifar100-test"),
    ("lit-minilm", "cifar100-test", "caltech101-test"),
    ("lit-mobilenet", "caltech101-test", "cifar100-test"),
    ("lit-mobilenet", "cifar100-test", "caltech101-test"),
    ("vit-distilled", "caltech101-test", "cifar100-test"),
    ("vit-distilled", "cifar100-test", "caltech101-test"),
)
METHODS: Mapping[str, Method] = {"lip": Lip(), "lip_paper": LipPaper(pictures=16, stop_pictures=8, draws=5)}
"""lip at its defaults; the published constants with fewer pictures and noise draws, which cost most of its time."""

VARIANTS: Mapping[str, Method] = {
    "lip, text tower": Lip(towers="text"),
    "lip, hold 50": Lip(hold=50.0),
}
"""Where the defaults cost other data more than a point: what less of the image tower, or more holding, costs."""

VARIED = 3
"""Place in RUNS of the model and data that they are run on, with the first seed."""

PAPER_CLASSES = 3
"""Classes of each data set that `lip_paper` is run on, with the first seed."""

REST, OTHER = 500, 500
"""Images of other classes and of the other data set."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Photographs:
    """Prepared images with their labels, and the classes they are told apart among."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    @torch.no_grad()
    def embedded(self, model: Model) -> Tensor:
        """Return the embeddings by a model."""
        return torch.cat([model.images(part) for part in torch.split(self.pixels, 25)])

    def hits(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Return which images are recognised."""
        return cosines(embeddings, rows).argmax(1) == self.labels


def photographs(model: Model, images: ImageSet, always: set[int], count: int) -> Photographs:
    """Return all images of some classes and `count` of the others, drawn with a fixed seed."""
    first = [row for row, label in enumerate(images.labels) if label in always]
    others = [row for row, label in enumerate(images.labels) if label not in always]
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))[:count].tolist()
    pixels, kept = pixels_of(images, model.adapter.prepare, [*first, *(others[place] for place in drawn)])
    return Photographs(pixels=pixels, labels=torch.tensor([images.labels[row] for row in kept]), classes=images.classes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A model, what it is measured on, and what it recognised before."""

    model: Model
    images: ImageSet
    own: Photographs
    other: Photographs
    synonyms: Mapping[str, tuple[str, ...]]

    @cached_property
    def before(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of both sets by the model as it was."""
        return self.own.embedded(self.model), self.other.embedded(self.model)


def open_bed(folder: Path, name: str, own: str, other: str) -> Bed:
    """Return a model with its photographs."""
    model, images = open_model(folder / "models" / name), load(folder, name, own)
    synonyms = held_out(folder, own.removesuffix("-test"), images) if name == "lit-minilm" else {}
    return Bed(
        model=model,
        images=images,
        own=photographs(model, images, set(targets(images)), REST),
        other=photographs(model, load(folder, name, other), set(), OTHER),
        synonyms=synonyms,
    )


def counts(hits: Tensor) -> list[int]:
    """Return how many of how many."""
    return [int(hits.sum()), len(hits)]


def measured(bed: Bed, model: Model, index: int) -> dict[str, object]:
    """Return what a model recognises: the class, the rest, other data, and the class by its held-out names."""
    plain = Request(forget=(Concept(name="x"),))
    same = model is bed.model
    embeddings, elsewhere = bed.before if same else (bed.own.embedded(model), bed.other.embedded(model))
    rows = class_texts(model, plain, bed.own.classes)
    hits, shown = bed.own.hits(embeddings, rows), bed.own.labels == index
    other = bed.other.hits(elsewhere, class_texts(model, plain, bed.other.classes))
    found: dict[str, object] = {"forget": counts(hits[shown]), "rest": counts(hits[~shown]), "other": counts(other)}
    for name in bed.synonyms.get(bed.images.classes[index], ()):
        asked = rows.clone()
        asked[index] = class_texts(model, plain, [name])[0]
        found[f"name: {name}"] = counts(bed.own.hits(embeddings, asked)[shown])
    towers = class_texts(bed.model, plain, bed.own.classes)
    found["image tower alone"] = counts(bed.own.hits(embeddings, towers)[shown])
    return found


def without(request: Request, names: Sequence[str]) -> Request:
    """Return the request without names that it is to be asked by: neither the thesaurus nor the background has them."""
    barred = {key(name) for name in names}
    concepts = [
        {**concept.model_dump(), "found": [name for name in concept.found if key(name) not in barred]}
        for concept in request.forget
    ]
    background = [name for name in request.background if key(name) not in barred]
    return Request(**{**request.model_dump(), "forget": concepts, "background": background})


def one(bed: Bed, index: int, method: Method, seed: int) -> dict[str, object]:
    """Return one run: seconds, what was recognised before and after, and what the method measured itself."""
    name = bed.images.classes[index]
    request = Request(
        forget=(Concept(name=name),), retain=tuple(other for other in bed.images.classes if other != name), seed=seed
    )
    request = without(completed(bed.model, request, other_names="auto", background="nouns"), bed.synonyms.get(name, ()))
    begin = time.perf_counter()
    try:
        patch = method.forget(bed.model, request)
    except UnsupportedError as error:
        return {"class": name, "seed": seed, "failed": str(error), "seconds": time.perf_counter() - begin}
    seconds = time.perf_counter() - begin
    return {
        "class": name,
        "seed": seed,
        "seconds": seconds,
        "tensors": sorted(patch.deltas),
        "reason": patch.reason,
        "synthetic": [[reading.name, reading.subject, reading.value, reading.count] for reading in patch.readings],
        "before": measured(bed, bed.model, index),
        "after": measured(bed, patch.apply(bed.model), index) if not patch.empty else measured(bed, bed.model, index),
    }


def plan(seeds: int) -> list[tuple[int, int, str, int]]:
    """Return all runs (place in RUNS, place of the class, method, seed): first seeds first, models in turn."""
    places = [0, 5, 2, 7, 4, 9, 1, 6, 3, 8]
    first = [(run, place, "lip", 0) for place in places for run in range(len(RUNS))]
    paper = [(run, place, "lip_paper", 0) for place in places[:PAPER_CLASSES] for run in range(len(RUNS))]
    later = [(run, place, "lip", seed) for seed in range(1, seeds) for place in places for run in range(len(RUNS))]
    return [*first, *paper, *later, *varied()]


def varied() -> list[tuple[int, int, str, int]]:
    """Return the runs of the variants."""
    return [(VARIED, place, name, 0) for name in VARIANTS for place in range(10)]


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="one model")
    parser.add_argument("--variants", action="store_true", help="the variants alone")
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    path = RESULTS / "lip_photographs.json"
    found = opened(path)
    beds: dict[int, Bed] = {}
    for run, place, name, seed in [] if given.report else varied() if given.variants else plan(given.seeds):
        model, own, other = RUNS[run]
        run_key = f"{model} {own} {place} {name} {seed}"
        if run_key in found["runs"] or given.only not in ("", model):
            continue
        if run not in beds:
            beds[run] = open_bed(given.yardsticks, model, own, other)
        index = targets(beds[run].images)[place]
        row = one(beds[run], index, {**METHODS, **VARIANTS}[name], seed)
        with alone(path):
            found = opened(path)
            found["runs"][run_key] = {"model": model, "data": own, "other": other, "method": name, **row}
            found |= {
                "version": version(),
                "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
                "libraries": library_versions(),
                "command": "python benchmarks/lip_photographs.py --yardsticks FOLDER",
                "settings": {
                    method: chosen.model_dump(mode="json") for method, chosen in {**METHODS, **VARIANTS}.items()
                },
            }
            atomic.write_json(path, found)
        sys.stderr.write(f"{run_key}: {row['class']} {row['seconds']:.0f} s {row.get('before')} {row.get('after')}\n")
    atomic.write_text(RESULTS / "lip_photographs.md", table(opened(path)))


if __name__ == "__main__":
    main()
