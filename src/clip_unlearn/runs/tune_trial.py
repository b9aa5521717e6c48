"""One trial of a search: a method makes a patch, and pictures tell what it does. n pictures."""

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core import journal, readings
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Plain, Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.versions import version
from clip_unlearn.data.answers import answers, forget_indices
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import DataError, DivergedError
from clip_unlearn.runs.predict import Scene
from clip_unlearn.runs.run import make_patch
from clip_unlearn.runs.tuned import Failure, Trial

FORGET: Final = "forget accuracy"
RETAIN: Final = "retain accuracy"

ROUNDING: Final = 1e-9
"""Percentage points by which 100 x 0.07 is more than 7."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one edit does: which pictures are recognised after it, or why there is no edit."""

    hits: Tensor
    """Whether each picture is classified rightly [n]; empty where the trial failed."""

    seconds: float
    failure: Failure = ""
    reason: str = ""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """A model, a request, and the labelled pictures that every trial is measured on."""

    model: Model
    request: Request
    digest: str
    """Of the pictures."""

    scene: Scene
    """All pictures, with all class names to choose from."""

    forgotten: Tensor
    """Which pictures show what is to be forgotten [n]."""

    budget: float
    """Percentage points of retained accuracy that may be lost."""

    steps: Path
    """Folder for the steps of a method in the trial that is being made."""

    resume: bool
    """Whether an interrupted trial goes on from what is there."""

    @property
    def before(self) -> tuple[Reading, Reading]:
        """Return the accuracy of the unedited model on what is to be forgotten, and on the rest."""
        return _readings(self.scene.margins > 0, self.forgotten, subject="before")

    def outcome(self, method: Method) -> Outcome:
        """Return what a method does with its settings; from the journal where an earlier run measured it.

        Only training that gives no numbers, and a patch that changes nothing, are failures of a trial; every other
        error ends the search.
        """
        settings = method.model_dump(mode="json")
        where = [self.model.fingerprint, str(self.model.device), self.request.digest, self.digest, version()]
        stored = journal.step(["tune", type(method).__name__, settings, *where], lambda: _packed(self._made(method)))
        return _unpacked(stored)

    def trial(self, number: int, values: dict[str, Plain], outcome: Outcome) -> Trial:
        """Return what is written down of an outcome."""
        found = Trial(
            number=number,
            settings=values,
            seconds=round(outcome.seconds, 3),
            failure=outcome.failure,
            reason=outcome.reason,
        )
        if outcome.failure:
            return found
        forget, retain = _readings(outcome.hits, self.forgotten, subject="after")
        kept, before = outcome.hits[~self.forgotten], (self.scene.margins > 0)[~self.forgotten]
        cost = readings.change(f"{RETAIN} change", before, kept, "high")
        within = -100 * cost.value <= self.budget + ROUNDING
        return found.model_copy(update={"forget": forget, "retain": retain, "cost": cost, "within": within})

    def _made(self, method: Method) -> Outcome:
        start = time.perf_counter()
        patch: Patch | None = None
        reason, nothing = "", torch.zeros(0, dtype=torch.bool)
        with journal.journaling(self.steps, resume=self.resume):
            try:
                patch = make_patch(self.model, self._own_request(method), method)
            except DivergedError as error:
                reason = str(error)
        if patch is None:
            return Outcome(hits=nothing, seconds=time.perf_counter() - start, failure="diverged", reason=reason)
        if patch.empty:
            why = patch.reason or "The patch changes nothing."
            return Outcome(hits=nothing, seconds=time.perf_counter() - start, failure="nothing changed", reason=why)
        hits = self.scene.margins_after(patch) > 0
        return Outcome(hits=hits, seconds=time.perf_counter() - start)

    def _own_request(self, method: Method) -> Request:
        """Return the request that `forget` would give the method: without images where it asks for none."""
        if "images" in method.requires() or self.request.evidence is None:
            return self.request
        return Request(**{**self.request.model_dump(), "evidence": None})


def make_bench(
    model: Model, request: Request, images: ImageSet, *, budget: float, steps: Path, resume: bool = False
) -> Bench:
    """Return the bench of a model and a request on labelled images.

    Raises:
        DataError: if the images show nothing of what is to be forgotten, or nothing else.
    """
    found = answers(model, images, request)
    forgotten = torch.isin(found.labels, torch.tensor(forget_indices(images, request)))
    if not bool(forgotten.any()):
        names = ", ".join(request.forget_names)
        raise DataError(f"{images.where} shows nothing of what is to be forgotten: {names}. Give more images of it.")
    if bool(forgotten.all()):
        raise DataError(f"{images.where} shows no class but those to forget. Give pictures of other classes too.")

    def again(edited: Model) -> Tensor:
        return embed_images(edited, images, progress=partial(report, "embed")).vectors

    scene = Scene(
        model=model,
        request=request,
        names=images.classes,
        pictures=found.embeddings,
        labels=found.labels,
        told=images.where,
        again=again,
    )
    return Bench(
        model=model,
        request=request,
        digest=images.digest,
        scene=scene,
        forgotten=forgotten,
        budget=budget,
        steps=steps,
        resume=resume,
    )


def _readings(hits: Tensor, forgotten: Tensor, *, subject: str) -> tuple[Reading, Reading]:
    return (
        readings.share(FORGET, hits[forgotten], "low", subject=subject),
        readings.share(RETAIN, hits[~forgotten], "high", subject=subject),
    )


def _packed(outcome: Outcome) -> dict[str, Tensor]:
    told = json.dumps([outcome.failure, outcome.reason]).encode()
    return {
        "hits": outcome.hits,
        "seconds": torch.tensor(outcome.seconds, dtype=torch.float64),
        "told": torch.tensor(list(told), dtype=torch.uint8),
    }


def _unpacked(stored: dict[str, Tensor]) -> Outcome:
    failure, reason = json.loads(bytes(stored["told"].tolist()))
    return Outcome(hits=stored["hits"].bool(), seconds=float(stored["seconds"]), failure=failure, reason=reason)
