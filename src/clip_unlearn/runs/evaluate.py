"""Measure one model, or a model and its edit, without making a patch."""

from collections.abc import Sequence

import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.readings import mean, share
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.answers import answers
from clip_unlearn.data.open import Split, open_data
from clip_unlearn.errors import DataError
from clip_unlearn.runs.plan import make_probes
from clip_unlearn.runs.recipe import OTHER_PROBES, PROBES, DataChoice


def zero_shot(model: Model, data: str, *, templates: Sequence[str], split: Split = "all") -> tuple[Reading, ...]:
    """Return the zero-shot readings of one model: top-1, top-5, mean reciprocal rank, and accuracy of each class.

    Raises:
        DataError: if the data has no class labels.
    """
    images = open_data(data, split=split)
    if not images.classes:
        raise DataError(f"{data} has no class labels to measure zero-shot accuracy with. Give labelled images.")
    request = Request(forget=(Concept(name=images.classes[0]),), templates=tuple(templates))
    found = answers(model, images, request)
    ranks = found.ranks
    readings = [
        share("accuracy", ranks == 1, "high"),
        share("top-5 accuracy", ranks <= 5, "high"),
        mean("mean reciprocal rank", 1 / ranks.double(), "high"),
    ]
    for index, name in enumerate(images.classes):
        own = found.labels == index
        if bool(own.any()):
            readings.append(share("class accuracy", ranks[own] == 1, "high", of=name))
    return tuple(readings)


@torch.no_grad()
def compare(
    before: Model,
    after: Model,
    request: Request,
    *,
    data: DataChoice,
    probes: Sequence[str] = PROBES,
    others: Sequence[str] = (),
) -> tuple[Reading, ...]:
    """Return the readings of probes on a model and its edit.

    With `others`, other data sources, accuracy on each of them and the average score are measured besides.

    Raises:
        DataError: if the data does not fit the request, or leaves a probe undefined.
    """
    asked = tuple(dict.fromkeys((*probes, *(OTHER_PROBES if others else ()))))
    chosen, _ = make_probes(asked, data, others)
    return tuple(reading for probe in chosen for reading in probe.measure(before, after, request))
