"""Measure `find` on real photographs: ten classes with labels and ten concepts with captions, on two models.

    python benchmarks/find.py --yardsticks FOLDER [--report]

FOLDER holds `models/` and `data/`. Every model embeds a data set once. Every concept is written as it is measured, to
benchmarks/results/find.json; what is there is not measured again, so the command can be stopped and gone on with:
remove the file after a change of the code. Then find.md is made from all of it.

`find` gets pictures alone; labels and captions are looked at afterwards. It runs at its defaults, with the name of the
class or concept and nothing else. The classes of Caltech101 are evenly spaced in alphabetical order, the concepts of
Flickr8k were listed before anything was measured.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import torch
from lip_runs import RESULTS, SOURCE, opened, record
from project import targets
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.data.embed import Embeddings, embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.mentions import mentions
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError
from clip_unlearn.files import atomic, digest
from clip_unlearn.maths.intervals import mean_interval, wilson
from clip_unlearn.maths.mixture import average_precision
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts import kinds, thesaurus
from clip_unlearn.runs.find import look
from clip_unlearn.runs.find_names import SENTENCES, names_of
from clip_unlearn.runs.find_score import score
from clip_unlearn.runs.found import FindOrder
from clip_unlearn.runs.recipe import ModelChoice

Row = dict[str, Any]
PATH = RESULTS / "find.json"
COMMAND = "python benchmarks/find.py --yardsticks ../shared"
CODE = digest.of_json(
    [
        path.read_text()
        for path in sorted(
            [*(SOURCE / "runs").glob("find*.py"), SOURCE / "maths" / "mixture.py", *(SOURCE / "prompts").glob("*.py")]
        )
    ]
)[:12]
"""Of the code that is measured."""

MODELS: Final = ("lit-minilm", "lit-mobilenet")
CALTECH, FLICKR = "caltech101-test", "flickr8k-test"
CONCEPTS: Final = ("dog", "child", "bicycle", "ball", "horse", "beach", "snow", "mountain", "car", "skateboard")
"""What is looked for in Flickr8k."""

PRECISIONS: Final = (0.9, 0.75)
HALF: Final = "softmax over 1/2"
"""The usual way: the images for which the softmax probability of the concept among the same names is above 0.5."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A model and the images it looks at, once with what is known about them and once without."""

    name: str
    data: str
    model: Model
    known: ImageSet

    @cached_property
    def bare(self) -> ImageSet:
        """Return the pictures alone."""
        return replace(self.known, classes=(), labels=(), captions=(), domains=())

    @cached_property
    def embedded(self) -> Embeddings:
        """Return the embeddings; `find` takes them from the cache."""
        return embed_images(self.model, self.bare)

    def concepts(self) -> tuple[str, ...]:
        """Return what is looked for."""
        return CONCEPTS if self.data == FLICKR else tuple(self.known.classes[one] for one in targets(self.known))

    def shows(self, name: str, *, narrower: bool = False) -> Tensor:
        """Return which readable images show a concept by class, or by a caption that has one of its names.

        With `narrower`, a caption with the name of a kind of it counts too: "boy" for "child".
        """
        names = {key(one): one for one in (name, *thesaurus.synonyms(name))}
        if narrower:
            names |= {key(other): other for one in kinds.narrower(name) for other in (one, *thesaurus.synonyms(one))}
        if self.data == FLICKR:
            named = mentions(tuple(names.values()))
            return torch.tensor([any(map(named, self.known.captions[row])) for row in self.embedded.kept])
        own = [key(one) in names for one in self.known.classes]
        return torch.tensor([own[self.known.labels[row]] for row in self.embedded.kept])


def embedding(bed: Bed) -> Row:
    """Return how long it takes to embed the images."""
    start = time.perf_counter()
    found = bed.embedded
    return {"code": CODE, "seconds": time.perf_counter() - start, "images": len(found.kept)}


def one(bed: Bed, name: str) -> Row:
    """Return what is found of a concept at each precision, and what the usual way finds."""
    request = Request(forget=(Concept(name=name),), templates=SENTENCES)
    shown, wide = bed.shows(name), bed.shows(name, narrower=True)
    start = time.perf_counter()
    row: Row = {"code": CODE, "model": bed.name, "data": bed.data, "concept": name}
    row |= {"images": len(shown), "shown": int(shown.sum()), "shown or narrower": int(wide.sum()), "found": {}}
    for precision in PRECISIONS:
        row["found"][str(precision)] = found_at(bed, request, precision, shown, wide)
    row["seconds"] = (time.perf_counter() - start) / len(PRECISIONS)
    names = names_of(bed.model, request, "nouns")
    scores = score(bed.embedded.vectors, names, bed.model.logit_scale)
    row["found"][HALF] = counts(scores.margins > 0, shown, wide)
    row["expected images"] = float(scores.probabilities.sum())
    row["AP"] = {
        "find": average_precision(scores.probabilities, shown),
        HALF: average_precision(scores.margins, shown),
    }
    return row


def found_at(bed: Bed, request: Request, precision: float, shown: Tensor, wide: Tensor) -> Row:
    """Return what `find` chooses, and what it expects of that; nothing where it refuses."""
    order = FindOrder(model=ModelChoice(id=bed.name), name=request.forget[0], data=bed.bare.where, precision=precision)
    try:
        finding = look(bed.model, bed.bare, request, order).finding
    except DataError as error:
        return {**counts(torch.zeros_like(shown), shown, wide), "refused": str(error)}
    chosen = torch.tensor([image.chosen for image in finding.images])
    expected = {"expected precision": finding.expected.precision, "expected missed": finding.expected.missed}
    return {**counts(chosen, shown, wide), **expected, "rivals": [one.name for one in finding.rivals[:3]]}


def counts(chosen: Tensor, shown: Tensor, wide: Tensor) -> Row:
    """Return how many are chosen, and how many of them show the concept, or a kind of it."""
    hits, widely = int((chosen & shown).sum()), int((chosen & wide).sum())
    return {"chosen": int(chosen.sum()), "hits": hits, "hits or narrower": widely}


def share(hits: int, count: int) -> str:
    """Return a share in percent with its Wilson interval, "-" of nothing."""
    if not count:
        return "-"
    low, high = wilson(hits, count)
    return f"{100 * hits / count:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def line(row: Row) -> str:
    """Return the line of a concept."""
    cells = [row["concept"], str(row["shown"])]
    for way in (*map(str, PRECISIONS), HALF):
        found = row["found"][way]
        cells += [str(found["chosen"]), share(found["hits"], found["chosen"])]
        if way != HALF:
            cells.append(f"{100 * found['expected precision']:.0f}" if found["chosen"] else "-")
        cells.append(share(found["hits"], row["shown"]))
    cells += [f"{row['AP']['find']:.2f}", f"{row['AP'][HALF]:.2f}", f"{row['seconds']:.1f}"]
    return f"| {' | '.join(cells)} |"


def total(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each way: means over concepts with intervals, and all images of all concepts together."""
    for way in (*map(str, PRECISIONS), HALF):
        found = [row["found"][way] for row in rows]
        some = [one for one in found if one["chosen"]]
        cells = [f"find, {way}" if way != HALF else way, f"{len(some)} of {len(found)}"]
        cells.append(over([one["hits"] / one["chosen"] for one in some]))
        expected = [one["expected precision"] for one in some if "expected precision" in one]
        cells.append(f"{100 * sum(expected) / len(expected):.0f}" if expected else "")
        cells.append(over([one["hits or narrower"] / one["chosen"] for one in some]))
        cells.append(over([one["hits"] / row["shown"] for one, row in zip(found, rows, strict=True)]))
        cells.append(share(sum(one["hits"] for one in found), sum(one["chosen"] for one in found)))
        cells.append(share(sum(one["hits"] for one in found), sum(row["shown"] for row in rows)))
        cells.append(over([row["AP"][HALF if way == HALF else "find"] for row in rows]))
        yield f"| {' | '.join(cells)} |"


def over(values: Sequence[float]) -> str:
    """Return the mean over concepts in percent, with Student's interval."""
    if not values:
        return "-"
    low, high = (100 * end for end in mean_interval([*values]))
    return f"{100 * sum(values) / len(values):.0f} ({max(0, low):.0f} to {min(100, high):.0f})"


def part(model: str, data: str, found: Mapping[str, Row]) -> list[str]:
    """Return the tables of one model on one data set."""
    rows = [row for row in found.values() if (row.get("model"), row.get("data")) == (model, data)]
    if not rows:
        return []
    embedded = found.get(f"{model} {data} embed", {})
    truth = "a caption that has the name or a synonym" if data == FLICKR else "the label"
    columns = ["concept", "n"]
    for way in ("at .9", "at .75"):
        columns += [f"chosen {way}", "precision", "expected", "recall"]
    columns += ["softmax > 1/2", "precision", "recall", "AP find", "AP softmax", "seconds"]
    means = [
        "",
        "concepts",
        "precision",
        "expected",
        "or a kind of it",
        "recall",
        "of all chosen",
        "of all shown",
        "AP",
    ]
    return [
        f"## {model}, {data}",
        "",
        f"{rows[0]['images']} images, embedded in {embedded.get('seconds', 0):.0f} s. What is true says {truth}.",
        "",
        f"| {' | '.join(means)} |",
        "|---|" + "---|" * (len(means) - 1),
        *total(rows),
        "",
        f"| {' | '.join(columns)} |",
        "|---|" + "---|" * (len(columns) - 1),
        *map(line, rows),
        "",
    ]


def table(found: Row) -> str:
    """Return the results as Markdown."""
    runs = found["runs"]
    codes = ", ".join(dict.fromkeys(row["code"] for row in runs.values()))
    lines = [
        "# Finding images of a concept without labels",
        "",
        "`find` at its defaults, given a name and pictures: `--precision` .9 and .75 are what its own probabilities",
        "say. Beside it, the usual way: all images with a softmax probability above 1/2 among the same names. Figures",
        "are in percent but AP by concept. n: images that show the concept, which recall is over. Expected: the",
        "precision that `find` says itself, without labels. Or a kind of it: an image also counts whose captions have",
        'a narrower word only, "boy" for "child". A concept of which nothing is chosen has no precision, and recall 0.',
        "",
        "By concept, brackets are 95 % Wilson intervals over images. In the first table of each part means over",
        "concepts have Student's intervals over concepts; shares of all images together have Wilson's, which take the",
        "images of one concept for independent. Captions do not list all that can be seen, so on Flickr8k some images",
        "count as wrong that show the concept. Seconds: names, calibration and choice, without embedding the images;",
        "the first concept of a model pays for the nouns, which are then in the cache.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}; code {codes}.",
        f"Libraries: {', '.join(f'{name} {number}' for name, number in found['libraries'].items())}.",
        "",
    ]
    for model in MODELS:
        for data in (CALTECH, FLICKR):
            lines += part(model, data, runs)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Measure what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CLIP_UNLEARN_CACHE"] = cache
        for name in [] if given.report else MODELS:
            model = open_model(given.yardsticks / "models" / name)
            for data in (CALTECH, FLICKR):
                known = open_data(str(given.yardsticks / "data" / f"{data}.parquet"))
                bed = Bed(name=name, data=data, model=model, known=known)
                record(PATH, COMMAND, f"{name} {data} embed", partial(embedding, bed))
                for concept in bed.concepts():
                    record(PATH, COMMAND, f"{name} {data} {concept}", partial(one, bed, concept))
    atomic.write_text(RESULTS / "find.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
