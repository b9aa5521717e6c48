"""Measure `lip` at its defaults on every class of the sandbox, one at a time, on pictures that nothing else uses.

    python benchmarks/lip_sandbox.py [--report]

Every run is written as it ends, to benchmarks/results/lip_sandbox.json; what is there is not run again: remove the file
after a change of the method. Then lip_sandbox.md and lip_selected.svg (which blocks were chosen) are made from all of
it. All 28 classes stay in the candidate list; the other classes are retained by name, other names come from the
thesaurus, the background is the common nouns, as in `clip-unlearn forget`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from lip_figures import selected
from lip_runs import RESULTS, Bed, Row, one, open_bed, opened, record
from lip_sandbox_report import first_seed, table

from clip_unlearn.files import atomic
from clip_unlearn.methods.lip import Lip
from clip_unlearn.sandbox.classes import CLASS_NAMES

PATH = RESULTS / "lip_sandbox.json"
COMMAND = "python benchmarks/lip_sandbox.py"
WHOLE = "forget --model sandbox --forget mug --data sandbox --method lip"
SOME = ("mug", "cat", "car", "pear", "hammer", "castle")
"""One class of each of six groups, for further seeds and models."""

SEEDS = (1, 2)
MODELS = ("sandbox-conv", "sandbox-openclip")


def plan() -> list[tuple[str, str, int]]:
    """Return all runs, (model, class, seed), grouped by model."""
    first = [("sandbox", name, 0) for name in CLASS_NAMES]
    seeds = [("sandbox", name, seed) for seed in SEEDS for name in SOME]
    return [*first, *seeds, *((model, name, 0) for model in MODELS for name in SOME)]


def whole_command() -> Row:
    """Return the wall time of one whole command in a fresh process, with all that it measures and writes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "clip_unlearn", *WHOLE.split(), "--out", str(Path(folder) / "run")]
        begin, spent = time.perf_counter(), children_seconds()
        subprocess.run(command, check=True, capture_output=True)
        seconds = {"seconds": time.perf_counter() - begin, "processor seconds": children_seconds() - spent}
        return {"command": f"clip-unlearn {WHOLE}", **seconds}


def children_seconds() -> float:
    """Return the processor time of all processes that were started and have ended."""
    used = os.times()
    return used.children_user + used.children_system


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    beds: dict[str, Bed] = {}
    if not parser.parse_args().report:
        record(PATH, COMMAND, "whole command", whole_command)
        for model, name, seed in plan():
            run = f"{model} {name} {seed}"
            if run in opened(PATH)["runs"]:
                continue
            if model not in beds:
                beds = {model: open_bed(model)}
            compute = partial(one, beds[model], name, Lip(), seed)
            record(PATH, COMMAND, run, lambda: {"model": model, **compute()})  # noqa: B023
    found = opened(PATH)
    atomic.write_json(PATH, {**found, "settings": Lip().model_dump(mode="json")})
    atomic.write_text(RESULTS / "lip_sandbox.md", table(found))
    atomic.write_text(RESULTS / "lip_selected.svg", selected(first_seed(found)))


if __name__ == "__main__":
    main()
