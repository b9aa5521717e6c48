"""Whether a forgotten class's name still tells its images apart, or gives the edit away by avoiding them."""

from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import means
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import Answers, answers, forget_indices, measured_images
from clip_unlearn.maths.ranking import Ranking, change_interval, rank_groups
from clip_unlearn.maths.scores import cosines

NAME: Final = "over-forgetting AUC"


@final
class OverForgetting(Probe):
    """AUC of the cosine with the class's name: images of the class against images of all other classes.

    The share of pairs in which the image of the class has the higher cosine, ties one half, so that a null embedding
    counts as no difference. 1: the name still finds its images. 0.5: the name says nothing about them. Far below 0.5:
    the edit turned images and name against each other, which is a visible trace, because whoever sorts images by the
    name sees the class at the end. A model that never learnt the class need not be at 0.5 either; neither direction
    is the wished one. One reading for each class and their mean.
    """

    needs_images: ClassVar = True

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the area for each class to forget, and the mean, before, after and paired.

        A class without images, or without images of others beside it, has none.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        images = measured_images(self.data, self.split, request)
        first, second = answers(before, images, request), answers(after, images, request)
        pairs: list[tuple[Ranking, Ranking]] = []
        readings: list[Reading] = []
        for index in forget_indices(images, request):
            own = first.labels == index
            if bool(own.any()) and not bool(own.all()):
                pairs.append((_ranking(first, index, own), _ranking(second, index, own)))
                readings.extend(_of_class(*pairs[-1], of=images.classes[index]))
        return (*_mean(pairs), *readings)


def _ranking(known: Answers, index: int, own: Tensor) -> Ranking:
    scores = cosines(known.embeddings, known.texts[index : index + 1])[:, 0]
    return rank_groups(scores[own], scores[~own])


def _of_class(was: Ranking, now: Ranking, *, of: str) -> Readings:
    change = _reading(now.auc - was.auc, change_interval(was, now), now, "change", of)
    return (
        _reading(was.auc, was.interval(), was, "before", of),
        _reading(now.auc, now.interval(), now, "after", of),
        change.model_copy(update={"interval": "Hanley-McNeil joined by DeLong's correlation"}),
    )


def _reading(value: float, ends: tuple[float, float], ranking: Ranking, subject: Subject, of: str) -> Reading:
    return Reading(
        name=NAME,
        value=value,
        low=ends[0],
        high=ends[1],
        count=len(ranking.above),
        better="neither",
        subject=subject,
        of=of,
        interval="Hanley-McNeil, score form",
    )


def _mean(pairs: list[tuple[Ranking, Ranking]]) -> Readings:
    """Return the mean over classes; of a single class the readings themselves."""
    if len(pairs) <= 1:
        return tuple(reading for was, now in pairs for reading in _of_class(was, now, of=""))
    was, now = (torch.tensor([one.auc for one in column], dtype=torch.float64) for column in zip(*pairs, strict=True))
    return means(NAME, was, now, "neither")
