"""Measure every method on forgetting classes of CIFAR-100: one class, and 3, 10, 20 and 30 % of them in one request.

    python benchmarks/cliperase.py --yardsticks FOLDER [--only MODEL] [--hours 2] [--report]

FOLDER holds `models/` and `data/`. Methods learn from the train pack, choose their best state on a quarter of it that
they do not learn from, and are measured on images of the test pack and on another data set, at defaults. Every run is
written as it ends, to benchmarks/results/cliperase.json; what is there is not run again, so that the benchmark can be
stopped and gone on with. Then cliperase.md and cliperase.svg are made from all of it.
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from cliperase_report import figure, table
from lip_photographs import Photographs, counts, photographs
from lip_runs import RESULTS, opened, record
from project import load
from torch import Tensor

from clip_unlearn import methods
from clip_unlearn.core.config import build
from clip_unlearn.core.descent import readout_weights
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.answers import class_texts
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import InputError
from clip_unlearn.files import atomic
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed

Row = dict[str, Any]
PATH = RESULTS / "cliperase.json"
COMMAND = "python benchmarks/cliperase.py --yardsticks FOLDER"
SHARES = {"vit-distilled": (0.0, 0.1, 0.2, 0.3), "lit-minilm": (0.0, 0.03, 0.1, 0.2, 0.3)}
"""Shares of the classes that are forgotten; 0 stands for one class, which is also 3 % of the thirty of the first."""

PARTS: Mapping[str, Mapping[str, object]] = {
    "forgetting alone": {"retain_weight": 0.0, "consistency_weight": 0.0},
    "no consistency": {"consistency_weight": 0.0},
    "no retention": {"retain_weight": 0.0},
}
"""The ablation of `cliperase`; all modules are the row of its name."""

LAST, LAST_TEXT = (
    {"depth": "readout", "towers": towers, "rate": 0.01, "steps": 300, "retain_batch": 128}
    for towers in ("both", "text")
)
TEXT_RATES: Mapping[str, float] = {
    "ga": 0.03,
    "graddiff": 0.003,
    "npo": 0.01,
    "random_label": 0.03,
    "bad_teacher": 0.03,
    "multidelete": 0.03,
    "contrastive_unlearning": 0.03,
    "salun": 0.03,
    "pbu": 0.003,
    "munba": 0.03,
    "razor": 0.01,
    "negmerge": 0.003,
}
"""Rates of the others in the last text layer, the best on the sandbox by benchmarks/results/defaults.md."""

SHALLOW: Mapping[str, Mapping[str, object]] = {
    "cliperase, last layers": {"floor": "neutral", "descent": LAST},
    "cliperase, last text layer": {"floor": "neutral", "descent": LAST_TEXT},
    "cliperase, last layers, no floor": {"descent": LAST},
    "fine_tune, last layers": {"descent": LAST},
    **{f"{name}, last text layer": {"descent": {**LAST_TEXT, "rate": rate}} for name, rate in TEXT_RATES.items()},
    **{
        f"cliperase, last text layer, {name}": {**part, "floor": "neutral", "descent": LAST_TEXT}
        for name, part in PARTS.items()
    },
}
"""Training of the last linear layers alone, on every share and seed. Rate, batch and floor of `cliperase` were chosen
on held-out images of the train pack in one draw (lit-minilm, 10 %, first seed), its test images in view; all others
are fresh."""

CLOSED = ("redirect", "project", "ccup", "leace")
"""No training: on every share and seed."""

WHOLE = ("cliperase", "fine_tune", "ga", "graddiff", *(f"cliperase, {name}" for name in PARTS))
"""Whole encoders, with the first seed, on one class and a tenth of the classes."""

OTHERS = (
    "npo",
    "random_label",
    "bad_teacher",
    "multidelete",
    "contrastive_unlearning",
    "salun",
    "ssd",
    "pbu",
    "munba",
    "slug",
    "razor",
    "negmerge",
    "jit",
    "emmn",
    "unsir",
)
"""Whole encoders, on a tenth of the classes of the first model."""

SEEDS = 3
REST, OTHER = 500, 500
"""Images of other classes and of the other data set, beside all of the forgotten classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A model with what it learns from and what it is measured on."""

    model: Model
    evidence: Evidence
    classes: tuple[str, ...]
    folder: Path
    name: str
    drawn: dict[tuple[str, ...], Photographs] = field(default_factory=dict)
    features: dict[int, Tensor] = field(default_factory=dict)

    def forgotten(self, share: float, seed: int) -> tuple[str, ...]:
        """Return the classes of one request, the first of an order drawn by the seed: larger ones hold smaller ones."""
        order = torch.randperm(len(self.classes), generator=torch.Generator().manual_seed(seed)).tolist()
        return tuple(self.classes[place] for place in order[: max(1, round(share * len(order)))])

    def own(self, names: Sequence[str]) -> Photographs:
        """Return all test images of some classes and 500 of the others."""
        if tuple(names) not in self.drawn:
            images = load(self.folder, self.name, "cifar100-test")
            wanted = {images.class_index(name) for name in names}
            self.drawn[tuple(names)] = photographs(self.model, images, wanted, REST)
        return self.drawn[tuple(names)]

    def embedded(self, images: Photographs, model: Model) -> Tensor:
        """Return the embeddings by a model; the image tower is run once for all whose last layers alone differ."""
        changed = {name for name, weight in model.weights.items() if weight is not self.model.weights[name]}
        if not changed <= set(readout_weights(self.model, "both")):
            return images.embedded(model)
        if id(images) not in self.features:
            parts = [self.model.image_features(part) for part in torch.split(images.pixels, 25)]
            self.features[id(images)] = torch.cat([part for part in parts if part is not None])
        return model.read_out("image", self.features[id(images)])

    @cached_property
    def other(self) -> Photographs:
        """Return 500 images of another data set."""
        return photographs(self.model, load(self.folder, self.name, "caltech101-test"), set(), OTHER)


def open_bed(folder: Path, name: str) -> Bed:
    """Return a yardstick model with the CIFAR-100 packs."""
    images = open_data(str(folder / "data" / "cifar100-train.parquet"))
    return Bed(
        model=open_model(folder / "models" / name),
        evidence=Evidence(where=images.where, digest=images.digest),
        classes=load(folder, name, "cifar100-test").classes,
        folder=folder,
        name=name,
    )


def plan() -> Iterator[tuple[str, float, int, str]]:
    """Yield all runs (model, share, seed, method), the most telling ones first."""
    for seed in range(SEEDS):
        for model in SHARES:
            yield from ((model, share, seed, label) for share in SHARES[model] for label in (*SHALLOW, *CLOSED))
    for model in SHARES:
        yield from ((model, share, 0, label) for share in (0.0, 0.1) for label in WHOLE)
        if model == "vit-distilled":
            yield from ((model, 0.1, 0, label) for label in OTHERS)


def run(bed: Bed, share: float, seed: int, label: str) -> Row:
    """Return one run: seconds, what was recognised before and after, and what the method measured itself."""
    names = bed.forgotten(share, seed)
    request = Request(
        forget=tuple(Concept(name=name) for name in names),
        retain=tuple(name for name in bed.classes if name not in names),
        evidence=bed.evidence,
        seed=seed,
    )
    request = completed(bed.model, request, other_names="auto", background="nouns")
    name, _, part = label.partition(", ")
    method = build(methods.find(name), SHALLOW.get(label) or PARTS.get(part, {}), where=label)
    begin, spent = time.perf_counter(), time.process_time()
    try:
        patch = method.forget(bed.model, request)
    except InputError as error:
        patch = Patch(reason=f"failed: {error}")
    row: Row = {"classes": names, "share": share, "seed": seed, "method": label, "reason": patch.reason}
    row |= {"seconds": time.perf_counter() - begin, "processor seconds": time.process_time() - spent}
    row["settings"] = method.model_dump(mode="json")
    row["held out"] = [[one.name, one.subject, one.value, one.count] for one in patch.readings]
    return row | measured(bed, names, bed.model if patch.empty else patch.apply(bed.model))


@torch.no_grad()
def measured(bed: Bed, names: Sequence[str], edited: Model) -> Row:
    """Return how many images are recognised before and after: of the forgotten, of the rest, of other data."""
    own, plain = bed.own(names), Request(forget=(Concept(name="x"),))
    gone = torch.isin(own.labels, torch.tensor([own.classes.index(name) for name in names]))
    found: Row = {}
    for subject, model in (("before", bed.model), ("after", edited)):
        hits = own.hits(bed.embedded(own, model), class_texts(model, plain, own.classes))
        other = bed.other.hits(bed.embedded(bed.other, model), class_texts(model, plain, bed.other.classes))
        found[subject] = {"forget": counts(hits[gone]), "rest": counts(hits[~gone]), "other": counts(other)}
    return found


def main() -> None:
    """Run what is missing, for so many hours, and write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    parser.add_argument("--only", default="", help="one model")
    parser.add_argument("--hours", type=float, default=24.0, help="no run begins later than this")
    parser.add_argument("--report", action="store_true", help="make table and figure from what is there")
    given = parser.parse_args()
    beds: dict[str, Bed] = {}
    end = time.monotonic() + 3600 * given.hours
    for model, share, seed, label in () if given.report else plan():
        key = f"{model} {share} {seed} {label}"
        if given.only not in ("", model) or key in opened(PATH)["runs"] or time.monotonic() > end:
            continue
        if model not in beds:
            beds[model] = open_bed(given.yardsticks, model)
        record(PATH, COMMAND, key, partial(labelled, model, partial(run, beds[model], share, seed, label)))
    found = opened(PATH)
    atomic.write_text(RESULTS / "cliperase.md", table(found))
    atomic.write_text(RESULTS / "cliperase.svg", figure(found))
    sys.stderr.write(f"{len(found['runs'])} runs on {platform.machine()}\n")


def labelled(model: str, compute: partial[Row]) -> Row:
    """Return a run with the name of its model."""
    return {"model": model, **compute()}


if __name__ == "__main__":
    main()
