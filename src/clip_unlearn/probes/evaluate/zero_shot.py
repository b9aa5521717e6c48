"""Zero-shot accuracy on the forget set, the retain set, near neighbours, each class and each domain."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import means, shares
from clip_unlearn.core.record import Better, Reading
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import Answers, answers, forget_indices, measured_images, neighbour_indices
from clip_unlearn.data.images import ImageSet


@final
class ZeroShot(Probe):
    """Zero-shot classification over all class names of the data, the forgotten name still among them.

    Top-1 and top-5 accuracy and mean reciprocal rank, on images of the classes to forget, of all others, and of the
    nearest neighbours by text; before, after and paired. Wilson intervals; Bonett-Price and McNemar for changes.
    """

    needs_images: ClassVar = True

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    neighbours: int = Field(default=5, ge=1, le=100)
    """How many nearest classes by text similarity count as near neighbours of each class to forget."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return accuracies, ranks, per-class and per-domain readings.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        images = measured_images(self.data, self.split, request)
        forget = forget_indices(images, request)
        first, second = answers(before, images, request), answers(after, images, request)
        forgotten = torch.isin(first.labels, torch.tensor(forget))
        near = torch.isin(first.labels, torch.tensor(neighbour_indices(first.texts, forget, self.neighbours)))
        return (
            *_group("forget", first, second, forgotten, "low"),
            *_group("retain", first, second, ~forgotten, "high"),
            *_top_one("neighbour accuracy", first, second, near, "high"),
            *_per_class(images, first, second, forget),
            *_per_domain(images, first, second, forgotten),
        )


def _group(name: str, first: Answers, second: Answers, chosen: Tensor, better: Better) -> tuple[Reading, ...]:
    if not bool(chosen.any()):
        return ()
    before, after = first.ranks[chosen], second.ranks[chosen]
    return (
        *shares(f"{name} accuracy", before == 1, after == 1, better),
        *shares(f"{name} top-5 accuracy", before <= 5, after <= 5, better),
        *means(f"{name} mean reciprocal rank", 1 / before.double(), 1 / after.double(), better),
    )


def _top_one(
    name: str, first: Answers, second: Answers, chosen: Tensor, better: Better, of: str = ""
) -> tuple[Reading, ...]:
    if not bool(chosen.any()):
        return ()
    return shares(name, first.ranks[chosen] == 1, second.ranks[chosen] == 1, better, of=of)


def _per_class(images: ImageSet, first: Answers, second: Answers, forget: list[int]) -> list[Reading]:
    readings: list[Reading] = []
    for index, name in enumerate(images.classes):
        better: Better = "low" if index in forget else "high"
        readings.extend(_top_one("class accuracy", first, second, first.labels == index, better, of=name))
    return readings


def _per_domain(images: ImageSet, first: Answers, second: Answers, forgotten: Tensor) -> list[Reading]:
    readings: list[Reading] = []
    for domain in sorted(set(images.domains)):
        here = torch.tensor([images.domains[index] == domain for index in first.kept])
        readings.extend(_top_one("domain forget accuracy", first, second, here & forgotten, "low", of=domain))
        readings.extend(_top_one("domain retain accuracy", first, second, here & ~forgotten, "high", of=domain))
    return readings
