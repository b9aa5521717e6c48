"""Time and memory of `lip_paper` and of the pictures that Lip needs, against the published procedure written out.

    python benchmarks/lip.py [--yardsticks FOLDER] [--rounds 5]

Synthesis at equal steps and to acceptance, against the loop of `literal_lip.py` (one picture at a time, two forward
passes a step, gradients of all weights) and against the bare forward and backward pass; forgetting against the
literal loop. What is compared is run in turn, so that other work on the machine meets all alike. Memory is the peak of
a process of its own for every variant. Results: benchmarks/results/lip.{json,md}. FOLDER holds `models/lit-mobilenet`.
"""

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import literal_lip
import torch
from lip_forgetting import METHOD, Forgetting, Work
from lip_report import found_of, table
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._published_loop import class_rows
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis.album import STANDARD, attempt_album
from clip_unlearn.synthesis.ascend import Ascent, Classes, ascend
from clip_unlearn.synthesis.canvas import noise
from clip_unlearn.synthesis.published import PublishedAscent, climb

RESULTS = Path(__file__).parent / "results"
NEVER = 1 - 1e-12
"""A probability that no picture exceeds, so that all take every step."""

SIZES = (1, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A model, and how much is made with it at once."""

    name: str
    where: str
    count: int
    steps: int
    literal: int
    """Pictures that the literal loop makes in a round."""

    drawn: bool = False
    """Whether forgetting is run on noise, so that the making of pictures takes no memory."""

    @cached_property
    def model(self) -> Model:
        """Return the model."""
        return open_model(self.where)

    @cached_property
    def slow(self) -> Model:
        """Return the model whose weights all ask for gradients."""
        return literal_lip.gradients_on(self.model)

    @cached_property
    def request(self) -> Request:
        """Return what is to be forgotten among what."""
        return Request(forget=(Concept(name=CLASS_NAMES[0]),), retain=tuple(CLASS_NAMES[1:]))

    @cached_property
    def rows(self) -> Tensor:
        """Return the classifier."""
        with torch.no_grad():
            return unit(class_rows(self.model, self.request.sentences(CLASS_NAMES), len(self.request.templates)))

    @cached_property
    def forgetting(self) -> Forgetting:
        """Return the forgetting stage, on pictures of the class or, where that is enough, on noise."""
        total = METHOD.pictures + METHOD.stop_pictures
        if self.drawn:
            pixels = noise(total, self.side, STANDARD.starts, seeded())
        else:
            pixels = attempt_album(
                self.model, self.request, CLASS_NAMES[:1], count=total, settings=STANDARD, seed=0
            ).pixels
        return Forgetting(model=self.model, request=self.request, names=CLASS_NAMES, rows=self.rows, pixels=pixels)

    @property
    def side(self) -> tuple[int, int]:
        """Return height and width of its pictures."""
        return self.model.adapter.pixels.height, self.model.adapter.pixels.width


def seeded() -> torch.Generator:
    """Return a generator that always draws the same."""
    return torch.Generator().manual_seed(0)


def pure(bed: Bed, count: int, steps: int) -> float:
    """Run forward and backward passes by the pixels and nothing else."""
    pixels = torch.randn(count, 3, *bed.side, generator=seeded())
    for _ in range(steps):
        leaf = pixels.detach().requires_grad_()
        torch.autograd.grad(bed.model.images(leaf).sum(), leaf)
    return count * steps


def literal_steps(bed: Bed) -> float:
    """Run the published loop for a fixed number of steps."""
    settings, generator = PublishedAscent(steps=bed.steps), seeded()
    most = round(settings.largest_shift * settings.scale(bed.model.adapter.pixels))
    for _ in range(bed.literal):
        start = torch.randn(3, *bed.side, generator=generator)
        shifts = torch.randint(most + 1, (bed.steps, 2), generator=generator)
        literal_lip.one_picture(bed.slow, bed.rows, 0, start, shifts, settings, NEVER)
    return bed.literal * bed.steps


def climb_steps(bed: Bed, check_every: int) -> float:
    """Run the published ascent in a batch for a fixed number of steps."""
    settings = PublishedAscent(
        steps=bed.steps, check_every=check_every, high_probability=NEVER, lowest_probability=0, lower_by=0, rounds=1
    )
    classes = Classes(rows=bed.rows, wanted=(0,))
    with contextlib.suppress(UnsupportedError):  # no picture is accepted, as is meant here
        climb(bed.model, bed.rows[:1], classes, count=bed.count, settings=settings, generator=seeded())
    return bed.count * bed.steps


def ascend_steps(bed: Bed, check_every: int) -> float:
    """Run our ascent in a batch for a fixed number of steps."""
    given = {"steps": bed.steps, "check_every": check_every, "probability": NEVER, "batch": bed.count}
    made = ascend(
        bed.model,
        bed.rows[:1].expand(bed.count, -1),
        classes=Classes(rows=bed.rows, wanted=(0,) * bed.count),
        start=noise(bed.count, bed.side, STANDARD.starts, seeded()),
        draws=torch.rand(bed.steps, 2, generator=seeded()),
        settings=Ascent(**{**STANDARD.model_dump(), **given}),
    )
    return float(made.steps.sum())


def literal_accepted(bed: Bed) -> float:
    """Make pictures by the published loop until they are accepted."""
    made, _ = literal_lip.all_pictures(bed.slow, bed.rows, 0, bed.literal, PublishedAscent(), seeded())
    return len(made)


def climb_accepted(bed: Bed) -> float:
    """Make pictures by the published ascent, all at once, until they are accepted."""
    classes, settings = Classes(rows=bed.rows, wanted=(0,)), PublishedAscent()
    made = climb(bed.model, bed.rows[:1], classes, count=bed.count, settings=settings, generator=seeded())
    return float(made.accepted.sum())


def album_accepted(bed: Bed) -> float:
    """Make pictures as `lip` and `synthesize` do, from noise to acceptance."""
    album = attempt_album(bed.model, bed.request, CLASS_NAMES[:1], count=bed.count, settings=STANDARD, seed=0)
    return float(album.accepted.sum())


def stages(bed: Bed) -> Mapping[str, Mapping[str, Work]]:
    """Return everything that is timed, by stage; the first of each stage is what the others are compared with."""
    return {
        "equal steps": {
            "literal": partial(literal_steps, bed),
            "climb": partial(climb_steps, bed, 1),
            "climb, looks every 4": partial(climb_steps, bed, 4),
            "ascend, looks every 3": partial(ascend_steps, bed, 3),
            "ascend, no looks": partial(ascend_steps, bed, 0),
            "bare passes": partial(pure, bed, bed.count, bed.steps),
        },
        "to acceptance": {
            "literal": partial(literal_accepted, bed),
            "climb": partial(climb_accepted, bed),
            "album": partial(album_accepted, bed),
        },
        "forgetting": {
            "literal": lambda: bed.forgetting.literal(),
            "literal, pictures in batches": lambda: bed.forgetting.batched(),
            "lip_paper": lambda: bed.forgetting.ours(),
        },
        "batch size": {f"{size} at once": partial(pure, bed, size, max(1, 32 // size)) for size in SIZES},
    }


def rates(works: Mapping[str, Work], rounds: int, *, warm: bool) -> dict[str, list[float]]:
    """Return units per second of each in every round, all run in turn; without `warm` the first round is dropped."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds if warm else rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            units = work()
            found[name].append(units / (time.perf_counter() - start))
    return {name: own[-rounds:] for name, own in found.items()}


def peak(bed: Bed, stage: str, variant: str) -> float:
    """Return the most memory in MiB that a process of its own held in which one variant ran once."""
    command = [sys.executable, "-W", "ignore", __file__, "--peak", bed.name, bed.where, stage, variant]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(told.split()[-1])


def print_peak(bed: Bed, stage: str, variant: str) -> None:
    """Run one variant once, or nothing but the opening of the model, and print the peak."""
    torch.set_num_threads(1)
    float(bed.rows.sum())
    if stage != "opened":
        stages(bed)[stage][variant]()
    # Not ru_maxrss, which a process inherits from the one that started it.
    print(int(next(x for x in Path("/proc/self/status").read_text().split("\n") if "VmHWM" in x).split()[1]) / 1024)


def measured(bed: Bed, threads: int, rounds: int) -> list[dict[str, object]]:
    """Return one entry for every variant of every stage."""
    torch.set_num_threads(threads)
    found = []
    for stage, works in stages(bed).items():
        if stage == "forgetting":
            float(bed.forgetting.pixels.sum())  # made here, not in the first round
        print(bed.name, threads, stage, time.strftime("%H:%M:%S"), "load", os.getloadavg(), flush=True)
        found += found_of(bed.name, threads, stage, rates(works, rounds, warm=stage != "equal steps"))
    return found


def bed_of(name: str, where: str) -> Bed:
    """Return the bed of a model."""
    small = name == "sandbox"
    return Bed(name=name, where=where, count=32 if small else 16, steps=20 if small else 4, literal=2 if small else 1)


def main() -> None:
    """Measure and write both files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--yardsticks", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak:
        print_peak(replace(bed_of(*given.peak[:2]), drawn=True), *given.peak[2:])
        return
    beds, load = [bed_of("sandbox", "sandbox")], os.getloadavg()
    if given.yardsticks is None:
        print("lit-mobilenet is left out: give --yardsticks FOLDER.")
    else:
        beds.append(bed_of("lit-mobilenet", str(given.yardsticks / "models" / "lit-mobilenet")))
    found = [entry for bed in beds for threads in (1, 2) for entry in measured(bed, threads, given.rounds)]
    memory = []
    for bed in beds:
        pairs = [("opened", "-")]
        pairs += [(stage, name) for stage, works in stages(bed).items() for name in works if stage != "batch size"]
        memory += [{"model": bed.name, "stage": s, "variant": v, "peak": peak(bed, s, v)} for s, v in pairs]
    sizes = {bed.name: {"pictures": bed.count, "steps": bed.steps, "literal pictures": bed.literal} for bed in beds}
    loads = {"before": load, "after": os.getloadavg()}
    whole: dict[str, object] = {"command": "python benchmarks/lip.py" + " --yardsticks FOLDER" * (len(beds) - 1)}
    whole |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "libraries": library_versions()}
    whole |= {"version": version(), "load": loads, "sizes": sizes, "rates": found, "memory": memory}
    atomic.write_json(RESULTS / "lip.json", whole)
    atomic.write_text(RESULTS / "lip.md", table(whole))


if __name__ == "__main__":
    main()
