"""What the sandbox benchmarks of `lip` share: a model with its pictures, one measured run, results kept at once."""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from project import hits
from torch import Tensor

import clip_unlearn
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.versions import library_versions, version
from clip_unlearn.data.answers import Answers, answers, class_texts
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic, digest
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed
from clip_unlearn.sandbox.classes import CLASSES

Row = dict[str, Any]
RESULTS = Path(__file__).parent / "results"
AUDIT, SELECT = "sandbox@audit", "sandbox@select"
SOURCE = Path(clip_unlearn.__file__).parent
CODE = digest.of_json(
    [path.read_text() for room in ("methods", "synthesis") for path in sorted((SOURCE / room).glob("*.py"))]
)[:12]
"""Of the code that was measured, so that runs of different states of it are told apart."""

SYNONYMS = {one.name: one.synonyms for one in CLASSES}
PLAIN = Request(forget=(Concept(name="x"),))
"""Only its templates are used: what is asked for does not depend on what was forgotten."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bed:
    """A sandbox model, the pictures that it is measured on, and its answers before any edit."""

    model: Model
    images: ImageSet
    before: Answers


def open_bed(name: str) -> Bed:
    """Return one of the sandbox models with the audit pictures embedded by it."""
    model, images = open_model(name), open_data(AUDIT)
    return Bed(model=model, images=images, before=answers(model, images, PLAIN))


def request_for(bed: Bed, name: str, seed: int, real: bool) -> Request:  # noqa: FBT001
    """Return the request as a run would make it, with the `select` pictures as evidence where real ones are used."""
    retain = tuple(other for other in bed.images.classes if other != name)
    request = Request(forget=(Concept(name=name),), retain=retain, seed=seed)
    if real:
        images = open_data(SELECT)
        evidence = Evidence(where=images.where, digest=images.digest)
        request = Request(**{**request.model_dump(), "evidence": evidence})
    return completed(bed.model, request, other_names="auto", background="nouns")


def outcome(before: Tensor, after: Tensor) -> dict[str, int]:
    """Return how many pictures were right before and after, as the fields of `maths.average_score.Outcome`."""
    pairs = {"both": before & after, "lost": before & ~after, "gained": after & ~before, "neither": ~before & ~after}
    return {label: int(some.sum()) for label, some in pairs.items()}


def measured(bed: Bed, patch: Patch, name: str) -> Row:
    """Return outcomes on real pictures: both edited towers, each of them alone, and the class by its other names."""
    edited = bed.model if patch.empty else patch.apply(bed.model)
    after = bed.before if patch.empty else answers(edited, bed.images, PLAIN)
    own = bed.before.labels == bed.images.class_index(name)
    was, now = hits(bed.before), hits(after)
    found: Row = {"forget": outcome(was[own], now[own]), "rest": outcome(was[~own], now[~own])}
    alone = {
        "image tower alone": hits(replace(after, texts=bed.before.texts)),
        "text tower alone": hits(replace(bed.before, texts=after.texts)),
    }
    found |= {label: outcome(was[own], some[own]) for label, some in alone.items()}
    asked = SYNONYMS[name]
    rows, late = class_texts(bed.model, PLAIN, asked), class_texts(edited, PLAIN, asked)
    index = bed.images.class_index(name)
    found["other names"] = {
        synonym: outcome(hits(bed.before.renamed(index, first))[own], hits(after.renamed(index, second))[own])
        for synonym, first, second in zip(asked, rows, late, strict=True)
    }
    return found


def one(bed: Bed, name: str, method: Method, seed: int, *, real: bool = False) -> Row:
    """Return one run: seconds, the tensors that changed, what the method measured itself, and what is true.

    Seconds are by the clock and of the processor, which other work on the machine does not stretch.
    """
    request = request_for(bed, name, seed, real)
    begin, spent = time.perf_counter(), time.process_time()
    try:
        patch = method.forget(bed.model, request)
    except UnsupportedError as error:
        patch = Patch(reason=str(error))
    row: Row = {"class": name, "seed": seed}
    row |= {"seconds": time.perf_counter() - begin, "processor seconds": time.process_time() - spent}
    readings = [(each.name, each.subject, each.value, each.count) for each in patch.readings]
    row |= {"tensors": sorted(patch.deltas), "reason": patch.reason, "synthetic": readings}
    return row | measured(bed, patch, name)


def opened(path: Path) -> Row:
    """Return the results that are there, or none."""
    found: Row = json.loads(path.read_text()) if path.is_file() else {"runs": {}}
    return found


def alone(path: Path) -> FileLock:
    """Return what keeps other processes from writing the same results between reading and writing them."""
    return FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock")


def record(path: Path, command: str, run: str, compute: Callable[[], Row]) -> None:
    """Compute a run that is not there yet and write it at once, so that the benchmark can be stopped and gone on with.

    Beside the runs stand version, machine with its load, libraries and command; with each, a digest of the code. What
    older code gave stays: remove the file to measure anew.
    """
    if run in opened(path)["runs"]:
        return
    row = compute()
    with alone(path):
        found = opened(path)
        found["runs"][run] = {"code": CODE, **row}
        load = f"load {os.getloadavg()[0]:.1f}"
        found |= {
            "version": version(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, {load}",
            "libraries": library_versions(),
            "command": command,
        }
        atomic.write_json(path, found)
    sys.stderr.write(f"{run}: {found['runs'][run]['seconds']:.1f} s {short(found['runs'][run])}\n")


def short(row: Mapping[str, Any]) -> str:
    """Return the outcomes in one line."""
    return " ".join(f"{label} {row[label]}" for label in ("forget", "rest") if label in row)
