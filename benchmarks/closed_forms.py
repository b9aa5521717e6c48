"""Measure every closed form on real photographs and in the embedded world.

    python benchmarks/closed_forms.py --yardsticks FOLDER

FOLDER holds `models/` and `data/`. Results: benchmarks/results/closed_forms.{json,md,svg}. Images are embedded once per
model; an edit is applied to the embeddings as the output map that the method returns, whose equality with the folded
weights is a law of the tests. All classes of a data set stay in the candidate list. Every method runs at its defaults,
with the other classes as names to retain, other names from the thesaurus and the nouns as background.
"""

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import torch
from closed_forms_report import figure, table
from project import WORKED, load
from torch import Tensor
from torch.nn.functional import linear

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model, Tower
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request, key
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.answers import Answers, answers, class_texts, neighbour_indices
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import InputError
from clip_unlearn.files import atomic
from clip_unlearn.methods.ccup import Ccup
from clip_unlearn.methods.leace import Leace
from clip_unlearn.methods.project import Project
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.methods.text_space import TextSpace
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts import thesaurus
from clip_unlearn.prompts.expand import common_nouns
from clip_unlearn.prompts.wordings import misspellings, plural
from clip_unlearn.runs.names import completed
from clip_unlearn.sandbox.classes import CLASSES as WORLD

RESULTS = Path(__file__).parent / "results"
ONE_AT_A_TIME, DRAWS, SIZES = 30, 5, (5, 20, 50)
METHODS: Mapping[str, Method] = {
    "redirect": Redirect(),
    "redirect, strength 1": Redirect(strength=1.0),
    "redirect, text side": Redirect(side="text"),
    "ccup": Ccup(),
    "ccup, convention C": Ccup(convention="C"),
    "project": Project(),
    "text_space": TextSpace(),
    "leace": Leace(),
}
JOINT = ("redirect", "ccup", "project")
RUNS = (
    ("lit-minilm", "caltech101-test", ("cifar100-test", "tiny-imagenet-test")),
    ("lit-minilm", "cifar100-test", ("caltech101-test", "tiny-imagenet-test")),
    ("lit-mobilenet", "caltech101-test", ("cifar100-test", "tiny-imagenet-test")),
    ("lit-mobilenet", "cifar100-test", ("caltech101-test", "tiny-imagenet-test")),
    ("vit-distilled", "caltech101-test", ("cifar100-test",)),
    ("vit-distilled", "cifar100-test", ("caltech101-test",)),
    ("sandbox", "sandbox", ()),
)


def remembering(model: Model) -> Model:
    """Return the model with a text tower that computes the features of every sentence once."""
    seen: list[str] = []
    rows: list[Tensor] = []
    index: dict[str, int] = {}

    def tokenize(sentences: Sequence[str]) -> Mapping[str, Tensor]:
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in index]
        if new:
            features = model.text_features(new)
            rows.extend(features if features is not None else model.texts(new))
            index.update({sentence: len(seen) + place for place, sentence in enumerate(new)})
            seen.extend(new)
        return {"rows": torch.tensor([index[sentence] for sentence in sentences])}

    def features(_: torch.nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([rows[place] for place in tokens["rows"].tolist()])

    def embed(module: torch.nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
        return linear(features(module, tokens), module.get_submodule("text_projection").weight)  # type: ignore[arg-type]

    text = Tower(embed=embed, features=features, readout=model.adapter.text.readout)
    return replace(model, adapter=replace(model.adapter, tokenize=tokenize, text=text))


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A model and what it is measured on."""

    model: Model
    images: ImageSet
    known: Answers
    others: tuple[tuple[ImageSet, Answers], ...]
    evidence: Evidence | None
    synonyms: Mapping[str, tuple[str, ...]]
    """Names that were held out of the model's training, by class."""


def open_bed(folder: Path, name: str, own: str, others: Sequence[str]) -> Bed:
    """Return a model, its images embedded, and the held-out names of its classes."""
    if name == "sandbox":
        model, images = remembering(open_model(name)), open_data("sandbox@audit")
        synonyms = {one.name: one.synonyms for one in WORLD}
        evidence = open_data("sandbox@stop")
    else:
        model, images = remembering(open_model(folder / "models" / name)), load(folder, name, own)
        synonyms = held_out(folder, own.removesuffix("-test"), images) if name == "lit-minilm" else {}
        evidence = open_data(str(folder / "data" / f"{own.removesuffix('-test')}-train.parquet"))
    request = Request(forget=(Concept(name=images.classes[0]),))
    sets = [load(folder, name, other) for other in others]
    return Bed(
        model=model,
        images=images,
        known=answers(model, images, request),
        others=tuple((one, answers(model, one, request)) for one in sets),
        evidence=Evidence(where=evidence.where, digest=evidence.digest),
        synonyms=synonyms,
    )


def held_out(folder: Path, data: str, images: ImageSet) -> dict[str, tuple[str, ...]]:
    """Return the names held out of training that are no class of the data set, by class."""
    from project import CALTECH_NAMES

    listed = json.loads((folder / "models" / "lit-minilm" / "metrics.json").read_text())[f"{data}_synonyms"]
    found: dict[str, tuple[str, ...]] = {}
    for raw, (synonym, _, _) in listed["per_class"].items():
        name = CALTECH_NAMES.get(raw, CALTECH_NAMES.get(raw.replace("_", " "), raw.replace("_", " ")))
        if name in images.classes and synonym not in images.classes:
            found[name] = (synonym,)
    return found


def request_for(bed: Bed, indices: Sequence[int], without: Sequence[str] = ()) -> Request:
    """Return the request as a run would make it; names in `without` are unknown to thesaurus and background."""
    names = [bed.images.classes[index] for index in indices]
    retain = tuple(name for name in bed.images.classes if name not in names)
    request = Request(forget=tuple(Concept(name=name) for name in names), retain=retain)
    full = completed(bed.model, request, other_names="auto", background="nouns")
    barred = {key(name) for name in without}
    concepts = [
        Concept(name=one.name, found=tuple(name for name in one.found if key(name) not in barred))
        for one in full.forget
    ]
    background = tuple(name for name in common_nouns(without=[*names, *without]) if name in full.background)
    return Request(forget=tuple(concepts), retain=retain, background=background, evidence=bed.evidence)


def edited(known: Answers, model: Model, patch: Patch, names: Sequence[str]) -> Answers:
    """Return the answers after a patch, from the embeddings before it."""
    output = patch.outputs.get("image")
    embeddings = known.embeddings if output is None else output(known.embeddings)
    if patch.touches in ((), ("output:image",)):
        return replace(known, embeddings=embeddings)
    request = Request(forget=(Concept(name=names[0]),))
    return replace(known, embeddings=embeddings, texts=class_texts(patch.apply(model), request, names))


def hits(found: Answers) -> Tensor:
    """Return which images are recognised."""
    return found.ranks == 1


def counted(before: Tensor, after: Tensor, rows: Tensor) -> dict[str, int]:
    """Return how many of some images are recognised before and after."""
    return {"n": int(rows.sum()), "before": int(before[rows].sum()), "after": int(after[rows].sum())}


def same_thing(name: str, names: Sequence[str]) -> list[int]:
    """Return the classes of another data set that are the forgotten class, or a kind of it, by name or thesaurus."""
    own = {key(one) for one in (name, *thesaurus.synonyms(name))}
    heads = {one.split(" ")[-1] for one in own}
    return [place for place, other in enumerate(names) if key(other) in own | heads or key(other).split(" ")[-1] in own]


def groups_of(bed: Bed, patch: Patch, indices: Sequence[int]) -> dict[str, object]:
    """Return counts on the forgotten classes, the rest, the five nearest neighbours of each, and other data."""
    after = edited(bed.known, bed.model, patch, bed.images.classes)
    was, now, labels = hits(bed.known), hits(after), bed.known.labels
    own = torch.isin(labels, torch.tensor(indices))
    near = torch.isin(labels, torch.tensor(neighbour_indices(bed.known.texts, indices, 5)))
    found: dict[str, object] = {
        "forget": counted(was, now, own),
        "rest": counted(was, now, ~own),
        "neighbours": counted(was, now, near),
    }
    totals = {"n": 0, "before": 0, "after": 0}
    for images, known in bed.others:
        there = edited(known, bed.model, patch, images.classes)
        same = [place for index in indices for place in same_thing(bed.images.classes[index], images.classes)]
        counts = counted(hits(known), hits(there), ~torch.isin(known.labels, torch.tensor(same, dtype=torch.long)))
        totals = {name: totals[name] + counts[name] for name in totals}
    if totals["n"]:
        found["other data"] = totals
    if len(indices) == 1:
        found["AUC"] = ranking(after, indices[0])
    return found


def ranking(found: Answers, index: int) -> float:
    """Return the AUC with which the class's name ranks its own images above others."""
    scores = torch.nn.functional.normalize(found.embeddings) @ torch.nn.functional.normalize(found.texts[index], dim=0)
    own, other = scores[found.labels == index], scores[found.labels != index]
    return float((own.unsqueeze(1) > other).float().mean())


def asked(bed: Bed, patch: Patch, index: int, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return counts on the class's images when it is asked for by other names, for names that worked before."""
    after = edited(bed.known, bed.model, patch, bed.images.classes)
    own = bed.known.labels == index
    request, model = Request(forget=(Concept(name=names[0]),)), bed.model
    later = model if patch.touches in ((), ("output:image",)) else patch.apply(model)
    rows, late = class_texts(model, request, names), class_texts(later, request, names)
    found = {}
    for place, name in enumerate(names):
        was, now = hits(bed.known.renamed(index, rows[place])), hits(after.renamed(index, late[place]))
        if was[own].float().mean() >= WORKED:
            found[name] = counted(was, now, own)
    return found


def ten_names(bed: Bed, name: str) -> tuple[str, ...]:
    """Return the name and at least ten other wordings of it, none of which is another class."""
    forms = [f"{word} {name}" for word in ("the", "one", "typical", "a kind of", "a type of")]
    offered = [name, plural(name), *misspellings(name), *bed.synonyms.get(name, ()), *thesaurus.synonyms(name), *forms]
    return tuple(dict.fromkeys(one for one in offered if one == name or one not in bed.images.classes))


def targets(bed: Bed) -> list[int]:
    """Return 30 classes, evenly spaced in alphabetical order, and all classes with held-out names."""
    order = sorted(range(len(bed.images.classes)), key=lambda index: bed.images.classes[index])
    spaced = {order[place * len(order) // ONE_AT_A_TIME] for place in range(ONE_AT_A_TIME)}
    return sorted(spaced | {bed.images.class_index(name) for name in bed.synonyms})


def single(bed: Bed, method: Method, index: int) -> dict[str, object]:
    """Return everything about one class: as shipped, and by held-out names with these names unknown to all lists."""
    name = bed.images.classes[index]
    request = request_for(bed, [index])
    settled = method.settled(bed.model, request)
    start = time.perf_counter()
    patch = settled.forget(bed.model, request)
    seconds = time.perf_counter() - start
    row = {"class": name, "seconds": seconds, "strength": getattr(settled, "strength", None)}
    row |= groups_of(bed, patch, [index])
    row["wordings"] = asked(bed, patch, index, ten_names(bed, name))
    if name in bed.synonyms:
        blind = request_for(bed, [index], without=bed.synonyms[name])
        row["held-out names"] = asked(bed, method.forget(bed.model, blind), index, bed.synonyms[name])
    return row


def joint(bed: Bed, method: Method, size: int, draw: int) -> dict[str, object]:
    """Return everything about one drawn set of classes forgotten together."""
    indices = sorted(random.Random(f"{size}/{draw}").sample(range(len(bed.images.classes)), size))
    request = request_for(bed, indices)
    return {"classes": [bed.images.classes[index] for index in indices]} | groups_of(
        bed, method.forget(bed.model, request), indices
    )


def on_bed(bed: Bed, say: Callable[[str], None]) -> dict[str, object]:
    """Return the results of all methods on one model and data set."""
    found: dict[str, object] = {}
    for label, method in METHODS.items():
        start = time.perf_counter()
        try:
            rows = [single(bed, method, index) for index in targets(bed)]
        except InputError as error:
            found[label] = {"refused": str(error)}
            continue
        sizes = [size for size in SIZES if 2 * size <= len(bed.images.classes)] if label in JOINT else []
        together = {str(size): [joint(bed, method, size, draw) for draw in range(DRAWS)] for size in sizes}
        found[label] = {"single": rows, "joint": together}
        say(f"  {label}: {time.perf_counter() - start:.0f} s")
    return found


def measure(folder: Path) -> dict[str, object]:
    """Return all results with where they were made."""
    results = []
    for name, own, others in RUNS:
        sys.stderr.write(f"{name} {own}\n")
        bed = open_bed(folder, name, own, others)
        facts = {"model": name, "data": own, "other data": others, "classes": len(bed.images.classes)}
        facts["images"] = len(bed.known.labels)
        say = partial(print, file=sys.stderr, flush=True)
        results.append({**facts, "methods": on_bed(bed, say)})
    return {
        "version": version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "libraries": library_versions(),
        "command": "python benchmarks/closed_forms.py --yardsticks FOLDER",
        "results": results,
    }


@cache
def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Measure and write all files."""
    found = measure(arguments().yardsticks)
    atomic.write_json(RESULTS / "closed_forms.json", found)
    atomic.write_text(RESULTS / "closed_forms.md", table(found))
    atomic.write_text(RESULTS / "closed_forms.svg", figure(found))
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
