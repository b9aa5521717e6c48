"""How long audits will take, from the speed of the model at hand; and which of them a budget has room for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core.config import name_of
from clip_unlearn.core.embedding_map import TOWERS, shares_features
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe
from clip_unlearn.core.record import Skipped
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.prepared import pixels_of
from clip_unlearn.maths.rounding import pruned, quantised

IMAGES: Final = 25
SENTENCES: Final = 64
WEIGHTS: Final = 1_000_000
"""How many are timed at most."""

WIDTH: Final = 256
"""Rows and columns of the matrices whose product is timed."""

KEPT: Final = ("support", "names", "varied")
"""Fields of `Work` that are kept for audits that come later."""

BACK: Final = 2.0
"""How much longer the way back takes than the way there."""


@final
@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds that a model takes."""

    image: float
    """For an image through the image tower."""

    sentence: float
    """For a sentence through the text tower."""

    weight: float = 0.0
    """To put another number in the place of a weight."""

    opening: float = 0.0
    """To open an image that is kept embedded; those that are attacked are opened once for many passes."""

    product: float = 0.0
    """To multiply and add in a matrix product."""

    def seconds(self, work: Work) -> float:
        """Return how long so much work takes; small things beside the towers are not counted."""
        trained = (1 + BACK) * (self.image + self.sentence)
        sentences = work.sentences + work.names + work.varied
        beside = work.support * self.opening + work.rewritten * self.weight + work.multiplied * self.product
        return beside + (work.images + work.support) * self.image + sentences * self.sentence + work.trained * trained


@torch.no_grad()
def speed_of(model: Model, images: ImageSet, request: Request) -> Speed:
    """Return the speed of a model, timed on a few images and on sentences of the request; the better of two turns."""
    places = range(min(IMAGES, len(images)))
    model = replace(model, memory=None)  # What is remembered takes no time.
    begin = time.perf_counter()
    pixels, kept = pixels_of(images, model.adapter.prepare, places)
    opening = (time.perf_counter() - begin) / len(places)
    names = (*request.forget_names, *request.retain, *request.background)
    sentences = [text for text in request.sentences(names)][:SENTENCES]
    matrix = max((one.detach() for one in model.weights.values() if one.ndim > 1), key=Tensor.numel).flatten(1)
    factor = torch.ones(WIDTH, WIDTH, dtype=torch.float64)
    part = matrix[: max(1, WEIGHTS // matrix.shape[1])]
    return Speed(
        image=_seconds(lambda: model.images(pixels.to(model.device))) / len(kept),
        sentence=_seconds(lambda: model.texts(sentences)) / len(sentences),
        weight=_seconds(lambda: (quantised(part, 8), pruned(part, 0.3))) / (2 * part.numel()),
        opening=opening,
        product=_seconds(lambda: factor @ factor) / WIDTH**3,
    )


def size_of(images: ImageSet, support: int, request: Request, models: tuple[Model, Model]) -> Size:
    """Return what the audits of a request are made on."""
    towers = [1 if shares_features(*models, tower) else 2 for tower in TOWERS]
    asked = {images.class_index(name) for name in request.forget_names} if images.labels else set()
    return Size(
        images=len(images),
        forgotten=sum(label in asked for label in images.labels),
        support=support,
        classes=len(images.classes),
        background=len({*request.retain, *request.background}),
        templates=len(request.templates),
        image_towers=towers[0],
        text_towers=towers[1],
    )


def estimates(probes: Sequence[Probe], models: tuple[Model, Model], size: Size, speed: Speed) -> tuple[float, ...]:
    """Return about how many seconds each audit takes on the original and the edited model, in their order.

    What one audit keeps for those after it is counted where it is made.
    """
    found: list[float] = []
    kept = dict.fromkeys(KEPT, 0.0)
    for probe in probes:
        work = probe.work(*models, size)
        fresh = {name: max(0.0, getattr(work, name) - there) for name, there in kept.items()}
        kept = {name: max(there, getattr(work, name)) for name, there in kept.items()}
        found.append(speed.seconds(replace(work, **fresh)))
    return tuple(found)


def within(
    probes: Sequence[Probe], seconds: Sequence[float], budget: float
) -> tuple[tuple[Probe, ...], tuple[Skipped, ...]]:
    """Return the audits that fit into a budget in seconds, in their order, and those that do not."""
    kept: list[Probe] = []
    left_out: list[Skipped] = []
    left = budget
    for probe, takes in zip(probes, seconds, strict=True):
        if takes <= left:
            kept.append(probe)
            left -= takes
        else:
            reason = f"it would take about {takes:.0f} s, and {max(0.0, left):.0f} s of the budget are left"
            left_out.append(Skipped(probe=name_of(probe), reason=reason))
    return tuple(kept), tuple(left_out)


def _seconds(call: Callable[[], object]) -> float:
    """Return the shorter of two turns: the first one pays for what is set up once."""
    turns = []
    for _ in range(2):
        begin = time.perf_counter()
        call()
        turns.append(time.perf_counter() - begin)
    return min(turns)
