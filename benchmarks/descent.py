"""Time a step of `cliperase`, and its way to a loss, against the loop written out with a stock library.

    python benchmarks/descent.py [--yardsticks FOLDER] [--rounds 7]

The literal loop (literal_cliperase.py) runs the frozen model on every batch and pads texts to full length, in float32.
Both get the same pixels and sentences and are run in turn. Results: benchmarks/results/descent.{json,md}. FOLDER holds
`models/` and `data/`.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lip_runs import RESULTS
from literal_cliperase import LiteralLoop
from torch import Tensor

from clip_unlearn.core.descent import Task, gradient, trained_weights
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.step import Inputs
from clip_unlearn.core.training import Descent
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.open import open_data
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.files import atomic
from clip_unlearn.methods.cliperase import Cliperase, loss_of
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox import bundle

RATE = 1e-4
"""Of both loops, which use Adam as the paper does."""

LENGTH = 20
"""Steps of the way to a loss."""

Batch = tuple[Tensor, Sequence[str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A checkpoint, and what it is trained on."""

    name: str
    folder: Path
    data: str
    forget: str


def beds(folder: Path | None) -> list[Bed]:
    """Return the embedded model, and the yardsticks where there are any."""
    found = [Bed(name="sandbox", folder=embedded("sandbox"), data="sandbox@stop", forget="mug")]
    if folder is not None:
        pack = str(folder / "data" / "caltech101-train.parquet")
        names = ("lit-minilm", "vit-distilled")
        found += [Bed(name=name, folder=folder / "models" / name, data=pack, forget="accordion") for name in names]
    return found


def embedded(name: str) -> Path:
    """Return the folder of an embedded model."""
    folder = bundle.folder(name)
    if folder is None:
        raise SystemExit(f"{name} is not embedded here")
    return folder


def task_of(bed: Bed, settings: Descent) -> Task:
    """Return what the engine trains."""
    model, images = open_model(bed.folder), open_data(bed.data)
    evidence = Evidence(where=images.where, digest=images.digest)
    pairs = pairs_of(model, Request(forget=(Concept(name=bed.forget),), evidence=evidence))
    feed = PairFeed(pairs=pairs, forget_batch=settings.forget_batch, retain_batch=settings.retain_batch)
    loss = partial(loss_of, Cliperase())
    return Task(model=model, feed=feed, loss=loss, weights=trained_weights(model, settings.towers))


class Engine:
    """The engine's steps, one at a time, with its weights and its optimiser kept."""

    def __init__(self, task: Task, settings: Descent) -> None:
        """Begin with the weights of the task's model."""
        self.task, self.settings = task, settings
        self.leaves = {name: task.model.weights[name].detach().clone().requires_grad_() for name in task.weights}
        self.optimiser = settings.make(list(self.leaves.values()))

    def step(self, number: int) -> float:
        """Take the step of that number, and return the loss before it."""
        loss, found = gradient(self.task, self.settings, self.leaves, number)
        for name, leaf in self.leaves.items():
            leaf.grad = found.get(name)
        self.optimiser.step()
        return loss


def batch(inputs: Inputs) -> tuple[Batch, Batch]:
    """Return the pixels and sentences of both sides."""
    return (inputs.forget.pixels, inputs.forget.sentences), (inputs.retain.pixels, inputs.retain.sentences)


def measured(bed: Bed, rounds: int) -> dict[str, Any]:
    """Return seconds per step of both, in turn, then losses and seconds of both on the way."""
    settings = Descent(optimiser="adam", rate=RATE, schedule="constant", precision="float32")
    task = task_of(bed, settings)
    engine, literal = Engine(task, settings), LiteralLoop(bed.folder, RATE)
    took: dict[str, list[float]] = {"engine": [], "literal": []}
    losses: dict[str, list[float]] = {"engine": [], "literal": []}
    for number in range(max(rounds, LENGTH) + 1):
        sides = batch(task.feed(number))  # decoded for both before either is timed
        steps: dict[str, Callable[[], float]] = {
            "engine": partial(engine.step, number),
            "literal": partial(literal.step, *sides),
        }
        for name in ("engine", "literal") if number % 2 else ("literal", "engine"):
            begin = time.perf_counter()
            losses[name].append(steps[name]())
            if number:  # the first step of each warms up
                took[name].append(time.perf_counter() - begin)
    return {"model": bed.name, "seconds": took, "losses": losses} | ratio(took)


def ratio(took: dict[str, list[float]]) -> dict[str, Any]:
    """Return the median ratio of paired steps with the range of its middle half."""
    pairs = sorted(slow / fast for slow, fast in zip(took["literal"], took["engine"], strict=True))
    quarter = len(pairs) // 4
    return {"ratio": statistics.median(pairs), "middle half": [pairs[quarter], pairs[-1 - quarter]], "n": len(pairs)}


def table(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["# A step of `cliperase`", "", " ".join((__doc__ or "").split("\n\n")[2].split()), ""]
    lines += [f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.", ""]
    lines += [
        "Median seconds per step, 16 pairs to forget and 32 to retain; ratio of paired steps, literal over engine,",
        "",
    ]
    lines += ["| model | engine | literal | ratio (middle half), n | last loss of both | seconds to it |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in found["runs"]:
        fast, slow = (row["seconds"][name] for name in ("engine", "literal"))
        low, high = row["middle half"]
        ends = ", ".join(f"{row['losses'][name][-1]:.3f}" for name in ("engine", "literal"))
        cells = [row["model"], f"{statistics.median(fast):.2f}", f"{statistics.median(slow):.2f}"]
        cells += [
            f"{row['ratio']:.2f} ({low:.2f} to {high:.2f}), {row['n']}",
            ends,
            f"{sum(fast):.0f}, {sum(slow):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path)
    parser.add_argument("--rounds", type=int, default=LENGTH)
    given = parser.parse_args()
    runs = []
    for bed in beds(given.yardsticks):
        runs.append(measured(bed, given.rounds))
        sys.stderr.write(f"{bed.name}: {runs[-1]['ratio']:.2f} times\n")
    machine = (
        f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    command = "python benchmarks/descent.py --yardsticks FOLDER"
    found: dict[str, Any] = {"runs": runs, "machine": machine, "command": command}
    found |= {"version": version(), "libraries": library_versions()}
    atomic.write_json(RESULTS / "descent.json", found)
    atomic.write_text(RESULTS / "descent.md", table(found))


if __name__ == "__main__":
    main()
