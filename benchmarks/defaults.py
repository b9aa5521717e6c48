"""Search the learning rate of every method that trains, on the `select` pictures of the sandbox.

    python benchmarks/defaults.py [--only METHOD] [--hours 2] [--report]

Methods learn from the photos of the `stop` stream and choose their best state on a quarter of it; what they are
searched by are photos of the `select` stream, and nothing is reported from those: the results of other benchmarks come
from further pictures. Every run is written as it ends, to benchmarks/results/defaults.json; what is there is not run
again. Then defaults.md is made.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from lip_runs import RESULTS, opened, record
from project import hits

from clip_unlearn import methods
from clip_unlearn.core.config import build
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.answers import answers
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import ClipUnlearnError
from clip_unlearn.files import atomic
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed

Row = dict[str, Any]
PATH = RESULTS / "defaults.json"
COMMAND = "python benchmarks/defaults.py"
EVIDENCE, SELECT = "sandbox:photo@stop", "sandbox:photo@select"
PLAIN = Request(forget=(Concept(name="x"),))
CLASSES: Final = ("mug", "cat")
"""One of the handled things and one of the animals."""

RATES: Final[Mapping[str, tuple[float, ...]]] = {
    "cliperase": (5e-4, 1e-3, 2e-3, 4e-3),
    "ga": (5e-4, 1e-3, 2e-3),
    "graddiff": (5e-4, 1e-3, 2e-3, 4e-3),
    "npo": (5e-4, 1e-3, 2e-3, 4e-3),
    "random_label": (1e-3, 2e-3, 4e-3),
    "bad_teacher": (1e-3, 2e-3, 4e-3),
    "multidelete": (5e-4, 1e-3, 2e-3, 4e-3),
    "contrastive_unlearning": (5e-4, 1e-3, 2e-3, 4e-3),
    "salun": (1e-3, 2e-3, 4e-3),
    "pbu": (5e-4, 1e-3, 2e-3),
    "munba": (2e-3, 4e-3, 8e-3),
    "razor": (1e-3, 3e-3, 9e-3),
    "emmn": (1e-2, 2e-2, 4e-2),
}
"""Rates of `descent.rate`; jit, unsir, ssd, slug and negmerge choose the size of their change by other rules."""

LAST: Final = ", last text layer"
SHALLOW: Final[Mapping[str, object]] = {"depth": "readout", "towers": "text", "steps": 300, "retain_batch": 128}
SHALLOW_RATES: Final[Mapping[str, tuple[float, ...]]] = {
    method + LAST: (3e-3, 1e-2, 3e-2) for method in ("negmerge", *RATES) if method != "emmn"
}
"""The same with the last layer of the text tower alone, for all methods that learn from pairs."""


def plan() -> Iterator[tuple[str, float, str]]:
    """Yield all runs (method, rate, class)."""
    for rates_of in (SHALLOW_RATES, RATES):
        for name in CLASSES:
            for method, rates in rates_of.items():
                yield from ((method, rate, name) for rate in rates)


def run(label: str, rate: float, name: str) -> Row:
    """Return one run: seconds, what was chosen, and how many select photos are recognised before and after."""
    model, images, evidence = open_model("sandbox"), open_data(SELECT), open_data(EVIDENCE)
    request = Request(
        forget=(Concept(name=name),),
        retain=tuple(other for other in images.classes if other != name),
        evidence=Evidence(where=evidence.where, digest=evidence.digest),
    )
    request = completed(model, request, other_names="auto", background="nouns")
    descent = {**(SHALLOW if label.endswith(LAST) else {}), "rate": rate}
    method = build(methods.find(label.removesuffix(LAST)), {"descent": descent}, where=label)
    begin, spent = time.perf_counter(), time.process_time()
    try:
        patch = method.forget(model, request)
    except ClipUnlearnError as error:
        patch = Patch(reason=f"failed: {error}")
    row: Row = {"method": label, "rate": rate, "class": name, "reason": patch.reason}
    row |= {"seconds": time.perf_counter() - begin, "processor seconds": time.process_time() - spent}
    index = images.class_index(name)
    for subject, one in (("before", model), ("after", model if patch.empty else patch.apply(model))):
        found = answers(one, images, PLAIN)
        right, own = hits(found), found.labels == index
        row[subject] = {
            side: [int(right[rows].sum()), int(rows.sum())] for side, rows in (("forget", own), ("rest", ~own))
        }
    return row


def balance(row: Row) -> float:
    """Return the harmonic mean of the share forgotten and the share of what was recognised of the rest that still is.

    2 (1 - A_f) R / ((1 - A_f) + R), R = min(1, A_r after / A_r before).
    """
    gone = 1 - share(row["after"]["forget"])
    kept = min(1.0, share(row["after"]["rest"]) / share(row["before"]["rest"]))
    return 2 * gone * kept / (gone + kept) if gone and kept else 0.0


def share(counts: Sequence[int]) -> float:
    """Return a share from hits and count."""
    return counts[0] / counts[1]


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs: list[Row] = list(found["runs"].values())
    lines = [
        "# Learning rates of methods that train",
        "",
        f"Photos of the sandbox: learned from `{EVIDENCE}`, searched on `{SELECT}`; classes {' and '.join(CLASSES)},",
        "one request each. Forgotten, rest: photos recognised, of all classes of the runs together. Balance: harmonic",
        "mean of the share forgotten and of the share of the rest that is kept, mean over classes. The best balance",
        "of a method is marked; of equal ones (to a thousandth) the smaller rate. These figures choose; they report",
        "nothing. Last text layer: `descent.depth=readout`, `descent.towers=text`, `descent.steps=300` and",
        "`descent.retain_batch=128`.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
        "| method | rate | default | forgotten | rest | balance | seconds | best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label in (*RATES, *SHALLOW_RATES):
        rates = sorted({run["rate"] for run in runs if run["method"] == label})
        groups = {rate: [run for run in runs if (run["method"], run["rate"]) == (label, rate)] for rate in rates}
        whole = {rate: own for rate, own in groups.items() if len(own) == len(CLASSES)}
        best = max(whole, key=lambda rate: (round(mean(whole[rate]), 3), -rate)) if whole else None
        lines += [_row(label, rate, own, best=rate == best) for rate, own in groups.items()]
    return "\n".join(lines) + "\n"


def mean(rows: Sequence[Row]) -> float:
    """Return the mean balance of runs."""
    return sum(map(balance, rows)) / len(rows)


def _row(label: str, rate: float, own: Sequence[Row], *, best: bool) -> str:
    default = None if label.endswith(LAST) else methods.find(label)().model_dump()["descent"]["rate"]
    sums = {side: [sum(run["after"][side][part] for run in own) for part in (0, 1)] for side in ("forget", "rest")}
    cells = [f"`{label}`", f"{rate:g}", "yes" if rate == default else ""]
    cells += [f"{hits}/{count}" for hits, count in sums.values()]
    cells += [
        f"{mean(own):.3f}",
        f"{sum(run['processor seconds'] for run in own) / len(own):.0f}",
        "best" if best else "",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what is missing, for so many hours, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="methods whose name begins so")
    parser.add_argument("--hours", type=float, default=24.0, help="no run begins later than this")
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    end = time.monotonic() + 3600 * given.hours
    for label, rate, name in () if given.report else plan():
        key = f"{label} {rate:g} {name}"
        if label.startswith(given.only) and key not in opened(PATH)["runs"] and time.monotonic() < end:
            record(PATH, COMMAND, key, partial(run, label, rate, name))
    atomic.write_text(RESULTS / "defaults.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
