"""Measure how far the models that methods edit are from models that never saw the class.

    python benchmarks/distances.py [--only METHOD ...] [--jobs 2] [--report]

On the population of `make lab`, which is trained once; every trial is kept in the cache, every method is written as it
ends, to benchmarks/results/distances.json, and what is there is not run again. Then distances.md is made.
"""

import argparse
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from lip_runs import RESULTS, opened, record

from clip_unlearn import methods
from clip_unlearn.core.distance import Distance, Estimate, retraining_lines
from clip_unlearn.files import atomic
from clip_unlearn.runs.lab_distance import distances

PATH: Final = RESULTS / "distances.json"
COMMAND: Final = "python benchmarks/distances.py"
METHODS: Final = ("project", "ccup", "redirect", "lip", "cliperase", "npo", "graddiff", "ga", "pbu")
FIGURES: Final = {
    "KS": "kolmogorov_smirnov",
    "ToW": "tug_of_war",
    "NoMUS": "unlearning_score",
}
SORTS: Final = {"unseen": "never seen", "word": "word alone"}
HEAD: Final = """# How far edited models are from models that never saw the class

{count} small models that hold car, cat or mug, each edited to forget it at the defaults of a method, beside {count}
that never saw the class and {count} that never saw its pictures and know its word; 102 pictures of the class. Mean over
pairs of models, 95 % interval by Student; of the attacker (U-LiRA) the AUC with Newcombe's. KS: largest distance of the
distributions of the class's log odds. ToW: 1 where forget and retain accuracy are the same. NoMUS: half the accuracy on
the others, half how little tells taught pictures from new ones. The rows in italics are what never-taught models of
different seeds are to each other: nothing can be expected to be nearer. F5: whether all that it needs holds.

Command: `{command}`. Machine: {machine}. Version {version}.

| method | beside | KS | ToW | NoMUS | U-LiRA | F5 |
|---|---|---|---|---|---|---|
"""


def run(name: str, jobs: int) -> dict[str, Any]:
    """Return the distances of a method from both sorts of models."""
    begin = time.perf_counter()
    found = distances(methods.find(name)(), jobs=jobs)
    return {
        "method": name,
        "seconds": time.perf_counter() - begin,
        "distances": [one.model_dump(mode="json") for one in found],
    }


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = [
        (name, [Distance.model_validate(one) for one in found["runs"][name]["distances"]])
        for name in METHODS
        if name in found["runs"]
    ]
    lines: list[str] = []
    for name, every in runs:
        if not lines:
            lines = [_floor(one) for one in every]
        lines += [_row(name, one) for one in every]
    fields = {each: found[each] for each in ("command", "machine", "version")}
    return HEAD.format(count=runs[0][1][0].count, **fields) + "\n".join(lines) + "\n"


def _floor(one: Distance) -> str:
    cells = [_cell(getattr(one, f"{field}_floor")) for field in FIGURES.values()]
    return f"| *two that never saw it* | {SORTS[one.sort]} | {' | '.join(cells)} |  |  |"


def _row(name: str, one: Distance) -> str:
    cells = [_cell(getattr(one, field)) for field in (*FIGURES.values(), "likelihood_ratio")]
    failed = [line.what.partition(",")[0] for line in retraining_lines([one]) if not line.passed]
    return (
        f"| `{name}` | {SORTS[one.sort]} | {' | '.join(cells)} | {'no: ' + ', '.join(failed) if failed else 'holds'} |"
    )


def _cell(one: Estimate) -> str:
    return f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})"


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=METHODS, default=METHODS, help="these methods alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    for name in () if given.report else given.only:
        record(PATH, COMMAND, name, partial(run, name, given.jobs))
    atomic.write_text(RESULTS / "distances.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
