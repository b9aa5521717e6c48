"""Measure what forgetting one sense of a word does to another sense of it, on photos of the sandbox with captions.

    python benchmarks/polysemy.py [--report]

Captions call pictures of houses "bird house", and "bird" is forgotten. Every run is written as it ends, to
benchmarks/results/polysemy.json; what is there is not run again: remove the file after a change of a method. Then
polysemy.md is made from all of it. Word, phrase and settings were chosen on photos of the `select` stream.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import torch
from lip_runs import RESULTS, opened, record

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.training import Descent
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.mentions import mentions
from clip_unlearn.data.open import open_data
from clip_unlearn.files import atomic
from clip_unlearn.maths.scores import cosines
from clip_unlearn.methods.cliperase import Cliperase
from clip_unlearn.methods.project import Project
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.evaluate.retrieval import Retrieval
from clip_unlearn.runs.names import completed
from clip_unlearn.sandbox import sentences, world
from clip_unlearn.sandbox.classes import CLASS_NAMES

Row = dict[str, Any]
PATH = RESULTS / "polysemy.json"
COMMAND = "python benchmarks/polysemy.py"

WORD: Final = "bird"
"""What is forgotten."""

OTHER: Final = "house"
"""The class whose captions use the word in another sense."""

PHRASE: Final = f"{WORD} {OTHER}"
"""What its captions call it."""

PHOTOS: Final = 34
"""Photos of every class in a stream."""

CAPTIONS: Final = 2
"""Captions of every photo, of different wording."""

TO_PHOTOS: Final = PHOTOS
TO_CAPTIONS: Final = CAPTIONS * PHOTOS
"""The k of recall@k: as many as there are photos, or captions, of one class."""

SEEDS: Final = 3
STREAMS: Final = ("stop", "audit")
"""Pictures to learn from, and pictures to report on."""

DESCENT: Final = Descent(steps=60, rate=3e-3)
"""A higher rate than the default, for so few steps."""

WAYS: Final = {f"text-to-image recall@{TO_PHOTOS}": "caption", f"image-to-text recall@{TO_CAPTIONS}": "photo"}
"""What the page shows, and what is searched with."""

GROUPS: Final = {"first sense": (WORD, "forget"), "second sense": (OTHER, "forget"), "all others": (WORD, "retain")}
"""Groups of photos: a class, and whether it is that or all the others; the second sense is among these."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method, what it learns from, and what it is told about the second sense."""

    method: Method
    evidence: Literal["", "captions", "classes"] = ""
    """The list of pictures that it learns from: with captions alone, with classes too, or none."""

    retained: tuple[str, ...] = (OTHER,)
    """Names for the second sense that are retained."""

    seeds: int = 1
    """Methods without anything random run once, and so do references."""


def _cliperase(other_senses: tuple[str, ...] = (), descent: Descent = DESCENT) -> Cliperase:
    return Cliperase(sentences="captions", other_senses=other_senses, descent=descent)


VARIANTS: Mapping[str, Variant] = {
    "cliperase, phrase in other_senses": Variant(
        method=_cliperase(other_senses=(PHRASE,)), evidence="captions", seeds=SEEDS
    ),
    "cliperase, classes": Variant(method=_cliperase(), evidence="classes", seeds=SEEDS),
    "cliperase, second sense left out": Variant(method=_cliperase(), evidence="classes", retained=()),
    "cliperase, the word decides": Variant(method=_cliperase(), evidence="captions", seeds=SEEDS),
    "cliperase, phrase in other_senses, defaults": Variant(
        method=Cliperase(sentences="captions", other_senses=(PHRASE,)), evidence="captions"
    ),
    "redirect": Variant(method=Redirect()),
    "redirect, phrase retained": Variant(method=Redirect(), retained=(OTHER, PHRASE)),
    "project": Variant(method=Project()),
    "project, phrase retained": Variant(method=Project(), retained=(OTHER, PHRASE)),
}


def said(picture: world.Picture) -> tuple[str, ...]:
    """Return the first sentences of the world that name the picture's class, with the phrase for the second sense."""
    name = picture.class_name
    named = mentions((name,))
    found = dict.fromkeys(text for text in sentences.captions(picture, 40) if named(text))
    return tuple(text.replace(name, PHRASE) if name == OTHER else text for text in [*found][:CAPTIONS])


def write_lists(folder: Path) -> None:
    """Write the photos of both streams, each with a list of their captions alone and one with their classes too."""
    for stream in STREAMS:
        lines = []
        for name in CLASS_NAMES:
            for index in range(PHOTOS):
                picture, key = world.render(name, "photo", stream, index), f"{stream}-{name}-{index}.png"
                world.as_image(picture).save(folder / key)
                lines += [{"filepath": key, "label": name, "caption": text} for text in said(picture)]
        for kind, columns in (("captions", ("filepath", "caption")), ("classes", ("filepath", "label", "caption"))):
            with (folder / f"{stream}-{kind}.csv").open("w", newline="") as file:
                table = csv.DictWriter(file, columns, extrasaction="ignore")
                table.writeheader()
                table.writerows(lines)


def request_for(model: Model, folder: Path, variant: Variant, seed: int) -> Request:
    """Return the request of a run, with other names and background as `clip-unlearn forget` fills them in."""
    others = tuple(name for name in CLASS_NAMES if name not in (WORD, OTHER))
    evidence = None
    if variant.evidence:
        images = open_data(str(folder / f"stop-{variant.evidence}.csv"))
        evidence = Evidence(where=images.where, digest=images.digest)
    request = Request(forget=(Concept(name=WORD),), retain=(*others, *variant.retained), evidence=evidence, seed=seed)
    return completed(model, request, other_names="auto", background="nouns")


def run(model: Model, folder: Path, label: str, seed: int) -> Row:
    """Return one run: seconds, and recall of both senses and of all others before and after."""
    variant = VARIANTS[label]
    request = request_for(model, folder, variant, seed)
    begin, spent = time.perf_counter(), time.process_time()
    patch = variant.method.forget(model, request)
    row: Row = {"variant": label, "seed": seed, "reason": patch.reason}
    row |= {"seconds": time.perf_counter() - begin, "processor seconds": time.process_time() - spent}
    row["settings"] = variant.method.model_dump(mode="json")
    row["held out"] = [[one.name, one.subject, one.value, one.count] for one in patch.readings]
    return row | measured(model, model if patch.empty else patch.apply(model), folder)


def measured(before: Model, after: Model, folder: Path) -> Row:
    """Return, of each group of photos, recall in both directions: value and ends of the interval, and the count."""
    probe = Retrieval(data=str(folder / "audit-classes.csv"), places=(1, 10, TO_PHOTOS, TO_CAPTIONS))
    found: Row = {}
    readings = {
        name: probe.measure(before, after, Request(forget=(Concept(name=name),)))
        for name in dict.fromkeys((WORD, OTHER))
    }
    for group, (name, side) in GROUPS.items():
        found[group] = {}
        for one in readings[name]:
            if one.name.startswith(side):
                told = found[group].setdefault(one.name.removeprefix(f"{side} "), {"count": one.count})
                told[one.subject] = [one.value, one.low, one.high]
    return found


@torch.no_grad()
def the_model(model: Model, folder: Path) -> Row:
    """Return how near the phrase is to the word and to the other class, and whose photo its captions find first."""
    start = time.perf_counter()
    plain = model.texts([f"a photo of a {name}." for name in (PHRASE, WORD, OTHER)])
    near = cosines(plain[:1], plain)[0]
    images = open_data(str(folder / "audit-classes.csv"))
    own = images.class_index(OTHER)
    texts = model.texts(
        [text for row, label in enumerate(images.labels) if label == own for text in images.captions[row]]
    )
    first = cosines(texts, embed_images(model, images).vectors).argmax(1)
    names = [images.classes[images.labels[place]] for place in first.tolist()]
    return {
        "cosine with the word": float(near[1]),
        "cosine with the class": float(near[2]),
        "find the class first": names.count(OTHER),
        "find the word first": names.count(WORD),
        "captions": len(names),
        "seconds": time.perf_counter() - start,
    }


def runs_of(found: Row) -> dict[str, list[Row]]:
    """Return the runs of every variant."""
    rows = [row for row in found["runs"].values() if "variant" in row]
    return {label: own for label in VARIANTS if (own := [row for row in rows if row["variant"] == label])}


def told(rows: Sequence[Row], group: str, way: str, subject: str) -> str:
    """Return a recall in percent: the mean over seeds, and from the lowest end of an interval to the highest."""
    values = [row[group][way][subject] for row in rows]
    sign = "+" if subject == "change" else ""
    mean = 100 * sum(value for value, _, _ in values) / len(values)
    low, high = 100 * min(low for _, low, _ in values), 100 * max(high for _, _, high in values)
    return f"{mean:{sign}.0f} ({low:{sign}.0f} to {high:{sign}.0f})"


def line(label: str, rows: Sequence[Row], way: str) -> str:
    """Return the line of a variant: after the edit, and the change of what should stay."""
    cells = [told(rows, "first sense", way, "after"), told(rows, "second sense", way, "after")]
    cells += [told(rows, group, way, "change") for group in ("second sense", "all others")]
    seconds = sum(row["processor seconds"] for row in rows) / len(rows)
    return f"| {label} | {' | '.join(cells)} | {len(rows)} | {seconds:.0f} |"


def part(runs: Mapping[str, Sequence[Row]], way: str) -> list[str]:
    """Return the table of one direction."""
    first = next(iter(runs.values()))
    counts = " / ".join(str(first[0][group][way]["count"]) for group in GROUPS)
    before = " | ".join(told(first, group, way, "before") for group in ("first sense", "second sense"))
    return [
        f"## Search by {WAYS[way]}: {way}",
        "",
        f"Photos behind the columns, first sense / second sense / all others: {counts}.",
        "",
        "| | first sense | second sense | second sense, change | all others, change | seeds | seconds |",
        "|---|" + "---|" * 6,
        f"| before | {before} | | | | |",
        *(line(label, rows, way) for label, rows in runs.items()),
        "",
    ]


def table(found: Row) -> str:
    """Return the results as Markdown."""
    one = found["runs"]["model"]
    codes = ", ".join(dict.fromkeys(row["code"] for row in found["runs"].values()))
    near = f"{one['cosine with the class']:.2f} with {OTHER} and {one['cosine with the word']:.2f} with {WORD}"
    first = (one["captions"], one["find the class first"], one["find the word first"])
    lines = [
        "# Two senses of a word",
        "",
        f"Photos of the `audit` stream of the sandbox, {PHOTOS} of each of 28 classes, each with {CAPTIONS} sentences",
        f'of the world that name its class; those of {OTHER} say "{PHRASE}". Forgotten is "{WORD}": photos of that',
        f"class show the first sense, those of {OTHER} the second. Recall@k with k as many as there are photos of a",
        f"class ({TO_PHOTOS}), or captions ({TO_CAPTIONS}): 100 % when all that are found first are of the class,",
        "whatever the details of a sentence. Means over seeds; brackets go from the lowest to the highest end of the",
        "seeds' 95 % intervals over photos: Wilson's, and for changes Bonett and Price's, on the safe side where",
        "a photo counts in part. Seconds of the processor, of the method alone.",
        "",
        f'Before any edit "a photo of a {PHRASE}." has cosine {near}.',
        f"Of {first[0]} captions with the phrase, {first[1]} find a {OTHER} first and {first[2]} a {WORD}: the sandbox",
        "reads the phrase by its last word. A model that mixes both words has more to lose.",
        "",
        "`cliperase` trains on captions of the `stop` stream, 60 steps at rate 3e-3, chosen on the `select` stream.",
        "Phrase in other_senses: pictures without classes, those with the phrase are retained. Classes: these say",
        f"what is forgotten. Second sense left out: the same, with {OTHER} in no list. The word decides: without",
        f'classes, every picture with "{WORD}" in a caption is forgotten. Defaults: 100 steps, 2e-3. `redirect` and',
        "`project` learn from names.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}; code {codes}.",
        "",
    ]
    runs = runs_of(found)
    return "\n".join([*lines, *(text for way in WAYS for text in part(runs, way))]).rstrip() + "\n"


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    if not parser.parse_args().report:
        with tempfile.TemporaryDirectory() as name:
            folder, model = Path(name), open_model("sandbox")
            write_lists(folder)
            record(PATH, COMMAND, "model", partial(the_model, model, folder))
            for label, variant in VARIANTS.items():
                for seed in range(variant.seeds):
                    record(PATH, COMMAND, f"{label}, seed {seed}", partial(run, model, folder, label, seed))
    atomic.write_text(RESULTS / "polysemy.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
