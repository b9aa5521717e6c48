"""Measure methods on search by caption and by image: forget what the captions of Flickr8k call a dog.

    python benchmarks/retrieval.py --yardsticks FOLDER [--only MODEL] [--hours 2] [--report]

FOLDER holds `models/` and `data/`. Methods that train learn from pairs of the train pack, with captions alone, and
choose their best state on a quarter of it that they do not learn from; recall is measured on the test pack. Every run
is written as it ends, to benchmarks/results/retrieval.json; what is there is not run again. Then retrieval.md is made.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lip_runs import RESULTS, opened, record

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.training import Descent
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import InputError
from clip_unlearn.files import atomic
from clip_unlearn.methods.cliperase import Cliperase
from clip_unlearn.methods.fine_tune import FineTune
from clip_unlearn.methods.ga import Ga
from clip_unlearn.methods.graddiff import Graddiff
from clip_unlearn.methods.multidelete import Multidelete
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.evaluate.retrieval import Retrieval
from clip_unlearn.runs.names import completed

Row = dict[str, Any]
PATH = RESULTS / "retrieval.json"
COMMAND = "python benchmarks/retrieval.py --yardsticks FOLDER"
MODELS = ("lit-mobilenet", "lit-minilm")
CONCEPT = "dog"
SEEDS = 3

LAST = Descent(depth="readout", rate=0.01, steps=300, retain_batch=128)
"""The last linear layers alone, as in benchmarks/cliperase.py, where it was chosen on images of another data set."""

METHODS: Mapping[str, Method] = {
    "cliperase, last layers": Cliperase(floor="neutral", descent=LAST),
    "cliperase, last text layer": Cliperase(
        floor="neutral", descent=Descent(**{**LAST.model_dump(), "towers": "text"})
    ),
    "fine_tune, last layers": FineTune(descent=LAST),
    "graddiff, last layers": Graddiff(loss="contrastive", descent=LAST),
    "ga, last layers": Ga(loss="agreement", descent=LAST),
    "multidelete, last layers": Multidelete(descent=LAST),
    "cliperase": Cliperase(),
    "fine_tune": FineTune(),
    "graddiff": Graddiff(loss="contrastive"),
    "ga": Ga(loss="agreement"),
    "multidelete": Multidelete(),
    "redirect": Redirect(),
    "redirect, text tower": Redirect(side="text"),
}
"""With the loss that captions allow; the closed form beside them is run once, for nothing is random."""

HEADER = (
    "| method | runs | direction | forget R@1 / 5 / 10 | retain R@1 / 5 / 10 | forget R@10 kept | retain R@10 kept | "
    "seconds | nothing changed |",
    "|---|---|---|---|---|---|---|---|---|",
)


def plan() -> Iterator[tuple[str, int, str]]:
    """Yield all runs (model, seed, method), the most telling ones first."""
    for seed in range(SEEDS):
        for model in MODELS:
            yield from ((model, seed, label) for label in METHODS if _cheap(label) and not (seed and _fixed(label)))
    for seed in range(SEEDS):
        for model in MODELS:
            yield from ((model, seed, label) for label in METHODS if not (_cheap(label) or _fixed(label)))


def _fixed(label: str) -> bool:
    return label.startswith("redirect")


def _cheap(label: str) -> bool:
    return "last" in label or _fixed(label)


def run(folder: Path, name: str, seed: int, label: str) -> Row:
    """Return one run: seconds, and recall before and after with its interval."""
    model, method = open_model(folder / "models" / name), METHODS[label]
    images = open_data(str(folder / "data" / "flickr8k-train.parquet"))
    request = Request(
        forget=(Concept(name=CONCEPT),),
        evidence=Evidence(where=images.where, digest=images.digest) if "images" in method.requires() else None,
        seed=seed,
    )
    request = completed(model, request, other_names="auto", background="nouns")
    begin = time.perf_counter()
    patch = patch_of(method, model, request)
    row: Row = {"model": name, "method": label, "seed": seed, "reason": patch.reason}
    row |= {"seconds": time.perf_counter() - begin, "settings": method.model_dump(mode="json")}
    row["held out"] = [[one.name, one.subject, one.value, one.count] for one in patch.readings]
    probe = Retrieval(data=str(folder / "data" / "flickr8k-test.parquet"))
    readings = probe.measure(model, model if patch.empty else patch.apply(model), request)
    row["recall"] = {f"{one.name} {one.subject}": [one.value, one.low, one.high, one.count] for one in readings}
    return row


def patch_of(method: Method, model: Model, request: Request) -> Patch:
    """Return the method's patch; an empty one where it refuses, which is a result too."""
    try:
        return method.forget(model, request)
    except InputError as error:
        return Patch(reason=f"failed: {error}")


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = list(found["runs"].values())
    lines = [f"# Search after forgetting “{CONCEPT}” from pairs with captions", ""]
    lines += [
        "Methods at their defaults, learning from 1,200 images of Flickr8k with five captions each; those with a",
        f"caption that says “{CONCEPT}” are to be forgotten, and there are no class labels. Last layers:",
        "`descent.depth=readout`, `descent.rate=0.01`, `descent.steps=300`, `descent.retain_batch=128` and, for",
        "`cliperase`, `floor=neutral`. Recall in % among all 600 images and 3,000 captions of the test pack, mean over",
        "runs, which differ in their seed; in brackets the 95 % interval of the first run (Wilson, over images). Kept:",
        "recall@10 by that of the model as it was. `fine_tune` is the matched reference: the same training without",
        "forgetting.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
    ]
    for model in dict.fromkeys(run["model"] for run in runs):
        some = [run for run in runs if run["model"] == model]
        counts = [some[0]["recall"][f"{side} image-to-text recall@10 before"][3] for side in ("forget", "retain")]
        lines += [f"## {model}: {counts[0]} images to forget, {counts[1]} to retain", "", *HEADER]
        lines += [_row("as it was", some[:1], way, "before") for way in WAYS]
        for label in METHODS:
            own = [run for run in some if run["method"] == label]
            lines += [_row(f"`{label}`", own, way, "after") for way in WAYS if own]
        lines.append("")
    reasons = dict.fromkeys(f"- {run['method']}: {run['reason']}" for run in runs if run["reason"])
    return "\n".join([*lines, *reasons]).rstrip() + "\n"


WAYS = ("text-to-image", "image-to-text")


def _row(label: str, runs: Sequence[Row], way: str, subject: str) -> str:
    cells = [label, str(len(runs)), way]
    cells += [
        " / ".join(f"{100 * _mean(runs, f'{side} {way} recall@{k} {subject}'):.1f}" for k in (1, 5, 10))
        + _interval(runs[0], f"{side} {way} recall@10 {subject}")
        for side in ("forget", "retain")
    ]
    for side in ("forget", "retain"):
        name = f"{side} {way} recall@10"
        cells.append(f"{100 * _mean(runs, f'{name} {subject}') / _mean(runs, f'{name} before'):.0f} %")
    if subject == "before":
        return f"| {' | '.join([*cells, '', ''])} |"
    seconds = sum(run["seconds"] for run in runs) / len(runs)
    unchanged = sum(bool(run["reason"]) for run in runs)
    return f"| {' | '.join([*cells, f'{seconds:.0f}', f'{unchanged} of {len(runs)}'])} |"


def _mean(runs: Sequence[Row], name: str) -> float:
    return float(sum(run["recall"][name][0] for run in runs)) / len(runs)


def _interval(run: Row, name: str) -> str:
    _, low, high, _ = run["recall"][name]
    return f" ({100 * low:.0f} to {100 * high:.0f})"


def main() -> None:
    """Run what is missing, for so many hours, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, required=True)
    parser.add_argument("--only", default="", help="one model")
    parser.add_argument("--hours", type=float, default=24.0, help="no run begins later than this")
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    end = time.monotonic() + 3600 * given.hours
    for model, seed, label in () if given.report else plan():
        key = f"{model} {seed} {label}"
        if given.only in ("", model) and key not in opened(PATH)["runs"] and time.monotonic() < end:
            record(PATH, COMMAND, key, partial(run, given.yardsticks, model, seed, label))
    atomic.write_text(RESULTS / "retrieval.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
