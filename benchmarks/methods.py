"""Run every method once through the command line on the sandbox, at defaults; the method pages quote the rows.

    python benchmarks/methods.py [--only METHOD] [--hours 2] [--report]

One command for each class and method: `clip-unlearn forget --model sandbox --forget CLASS --method M --data sandbox`,
timed from outside, start-up included. Methods that learn from images learn from the `stop` part and are measured on the
`audit` part; the others are measured on all parts. Every run is written as it ends, to benchmarks/results/methods.json;
what is there is not run again. Then methods.md is made.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from lip_runs import RESULTS, opened, record

from clip_unlearn import methods
from clip_unlearn.files import atomic
from clip_unlearn.maths.intervals import wilson

Row = dict[str, Any]
PATH = RESULTS / "methods.json"
COMMAND = "python benchmarks/methods.py"
CLASSES: Final = ("mug", "bird")
LEFT_OUT: Final = {"domain": "needs the name of a domain to forget in"}
WANTED: Final = ("forget accuracy", "retain accuracy")

HEADER = (
    "| method | needs | changes | forget | rest | seconds of a command | nothing changed |",
    "|---|---|---|---|---|---|---|",
)


def run(method: str, name: str) -> Row:
    """Return one run of the command: seconds, what it changed, and shares of right answers as hits and counts."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        asked = ["forget", "--model", "sandbox", "--forget", name, "--method", method, "--data", "sandbox"]
        begin, spent = time.perf_counter(), processor_seconds()
        subprocess.run(
            [sys.executable, "-m", "clip_unlearn", *asked, "--out", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "CLIP_UNLEARN_CACHE": str(Path(folder) / "cache")},
        )
        seconds, spent = time.perf_counter() - begin, processor_seconds() - spent
        found = json.loads((out / "record.json").read_text())
    row: Row = {"method": method, "class": name, "seconds": seconds, "processor seconds": spent}
    row |= {name: found["origin"][name] for name in ("reason", "touches")}
    for one in found["readings"]:
        if one["name"] in WANTED and not one["of"] and one["subject"] in ("before", "after"):
            hits = [round(one["value"] * one["count"]), one["count"]]
            row.setdefault(one["subject"], {})[one["name"].removesuffix(" accuracy")] = hits
    return row


def processor_seconds() -> float:
    """Return what all commands so far took of the processor, which other work on the machine does not stretch."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def reach(touches: Sequence[str]) -> str:
    """Return what a patch changes in a few words."""
    outputs = [one.removeprefix("output:") for one in touches if one.startswith("output:")]
    weights = len(touches) - len(outputs)
    parts = [f"a map after the {' and the '.join(outputs)} tower"] if outputs else []
    parts += [f"{weights} tensors"] if weights else []
    return ", ".join(parts) or "nothing"


def shares(runs: Sequence[Row], side: str) -> str:
    """Return a share before and after over all runs, the second with its Wilson interval and count."""
    (was, before), (hits, count) = (
        [sum(run[subject][side][part] for run in runs) for part in (0, 1)] for subject in ("before", "after")
    )
    low, high = wilson(hits, count)
    ends = f"{100 * low:.1f} to {100 * high:.1f}, n={count}"
    return f"{100 * was / before:.1f} → {100 * hits / count:.1f} % ({ends})"


def measured(runs: Sequence[Row]) -> tuple[str, str, str]:
    """Return of some runs of one method: forget, rest, seconds."""
    clock, processor = (sum(run[kind] for run in runs) / len(runs) for kind in ("seconds", "processor seconds"))
    seconds = f"{clock:.0f} ({processor:.0f} of the processor)"
    return shares(runs, "forget"), shares(runs, "retain"), seconds


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs: list[Row] = list(found["runs"].values())
    names = " and ".join(dict.fromkeys(run["class"] for run in runs))
    lines = [
        "# Every method on the sandbox",
        "",
        f"Whole commands at defaults, one request for each of {names}; accuracy before → after over all,",
        "Wilson interval. Methods that learn from images are measured on pictures that they did not learn from.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
        *HEADER,
    ]
    for method in sorted({run["method"] for run in runs}):
        own = [run for run in runs if run["method"] == method]
        needs = ", ".join(sorted(methods.find(method)().requires()))
        empty = sum(bool(run["reason"]) for run in own)
        cells = [f"`{method}`", needs, reach(own[0]["touches"]), *measured(own), f"{empty} of {len(own)}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, for so many hours, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="one method")
    parser.add_argument("--hours", type=float, default=24.0, help="no run begins later than this")
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    end = time.monotonic() + 3600 * given.hours
    for name in () if given.report else CLASSES:
        for method in methods.names():
            key = f"{method} {name}"
            wanted = given.only in ("", method) and method not in LEFT_OUT and key not in opened(PATH)["runs"]
            if wanted and time.monotonic() < end:
                record(PATH, COMMAND, key, partial(run, method, name))
    atomic.write_text(RESULTS / "methods.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
