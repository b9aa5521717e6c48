"""Time a step of `cliperase`, and its way to a loss, against the loop written out with a stock library.

    python benchmarks/descent.py [--yardsticks FOLDER] [--rounds 7]

The literal loop (literal_cliperase.py) runs the frozen model on every batch and pads texts to full length, in float32.
Both get the same pixels and sentences and are run in turn. Results: benchmarks/results/descent.{json,md}. FOLDER holds
`models/` and `data/`. "Last layers": both train the last linear layer of each tower alone, the engine on features that
it computes once, in the seconds given; the literal loop freezes the other weights.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lip_runs import RESULTS
from literal_cliperase import LiteralLoop
from torch import Tensor

from clip_unlearn.core.descent import Task, gradient
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.step import Inputs
from clip_unlearn.core.training import Descent
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.open import open_data
from clip_unlearn.data.pairs import Pairs, pairs_of
from clip_unlearn.files import atomic
from clip_unlearn.methods._training import task_of
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
    depth: Literal["encoder", "readout"] = "encoder"


def beds(folder: Path | None) -> list[Bed]:
    """Return the embedded model, and the yardsticks where there are any."""
    found = [Bed(name="sandbox", folder=embedded("sandbox"), data="sandbox@stop", forget="mug")]
    if folder is not None:
        pack = str(folder / "data" / "caltech101-train.parquet")
        names = ("lit-minilm", "vit-distilled")
        found += [Bed(name=name, folder=folder / "models" / name, data=pack, forget="accordion") for name in names]
    return [replace(bed, depth=depth) for depth in ("encoder", "readout") for bed in found]


def embedded(name: str) -> Path:
    """Return the folder of an embedded model."""
    folder = bundle.folder(name)
    if folder is None:
        raise SystemExit(f"{name} is not embedded here")
    return folder


def pairs_of_bed(bed: Bed) -> Pairs:
    """Return what both learn from."""
    model, images = open_model(bed.folder), open_data(bed.data)
    evidence = Evidence(where=images.where, digest=images.digest)
    return pairs_of(model, Request(forget=(Concept(name=bed.forget),), evidence=evidence))


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
    settings = Descent(optimiser="adam", rate=RATE, schedule="constant", precision="float32", depth=bed.depth)
    pairs = pairs_of_bed(bed)
    begin = time.perf_counter()
    task = task_of(Cliperase(descent=settings), pairs, partial(loss_of, Cliperase()), settings)
    once = time.perf_counter() - begin if bed.depth == "readout" else 0.0
    trained = task.weights if bed.depth == "readout" else ()
    engine, literal = Engine(task, settings), LiteralLoop(bed.folder, RATE, trained)
    feed = PairFeed(pairs=pairs, forget_batch=settings.forget_batch, retain_batch=settings.retain_batch)
    took: dict[str, list[float]] = {"engine": [], "literal": []}
    losses: dict[str, list[float]] = {"engine": [], "literal": []}
    for number in range(max(rounds, LENGTH) + 1):
        sides = batch(feed(number))  # decoded for both before either is timed
        steps: dict[str, Callable[[], float]] = {
            "engine": partial(engine.step, number),
            "literal": partial(literal.step, *sides),
        }
        for name in ("engine", "literal") if number % 2 else ("literal", "engine"):
            begin = time.perf_counter()
            losses[name].append(steps[name]())
            if number:  # the first step of each warms up
                took[name].append(time.perf_counter() - begin)
    name = bed.name + (", last layers" if bed.depth == "readout" else "")
    return {"model": name, "once": once, "seconds": took, "losses": losses} | ratio(took)


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
        "Median seconds per step, 16 pairs to forget and 32 to retain; ratio of paired steps, literal over engine.",
        "Losses agree to rounding in the first steps; Adam, whose first steps follow the sign of a gradient however",
        "small, carries rounding on.",
        "",
    ]
    lines += ["| model | once | engine | literal | ratio (middle half), n | second loss | last loss | seconds to it |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for row in found["runs"]:
        fast, slow = (row["seconds"][name] for name in ("engine", "literal"))
        low, high = row["middle half"]
        second, last = (
            ", ".join(f"{row['losses'][name][place]:.4f}" for name in ("engine", "literal")) for place in (1, -1)
        )
        once = f"{row['once']:.1f}" if row["once"] else ""
        cells = [row["model"], once, f"{statistics.median(fast):.3f}", f"{statistics.median(slow):.3f}"]
        cells += [
            f"{row['ratio']:.2f} ({low:.2f} to {high:.2f}), {row['n']}",
            second,
            last,
            f"{row['once'] + sum(fast):.1f}, {sum(slow):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path)
    parser.add_argument("--rounds", type=int, default=LENGTH)
    given = parser.parse_args()
    os.environ["CLIP_UNLEARN_CACHE"] = "off"  # what is done once is timed
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
