"""W4: read from the two models which name was forgotten."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import class_texts
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._layers import image_embeddings, last_layer
from clip_unlearn.probes.audit._scene import open_scene, open_support


@final
class Disclosure(Audit):
    """Place of the forgotten name in a list of names, when an attacker who has both models guesses which it was.

    Names: those to forget, to retain and of the background, in three orders. By the last image layer: the largest
    |cosine| with the leading directions of W_edited - W_original in the embedding space. By texts: how far the row of
    a name turns. By scores: the deviation, over images of other classes, of the change of their cosine with it. None
    needs an image of the class. 1: it is the first guess, and whoever has both models knows the request; the chance
    place is half the list. Where it is among the first, the patch is to be kept as confidential as the request.
    """

    code: ClassVar = "W4"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data whose classes are to forget; none of its images is used."""

    directions: int = Field(default=1, ge=1)
    """Leading directions of the change of the last layer that are looked at."""

    images: int = Field(default=300, ge=1)
    """Most images of other classes for the order by scores."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: some images of other classes and all names, by both models."""
        names = size.names + size.text_towers * size.background * size.templates
        passes = size.image_towers * min(size.support, self.images)
        return Work(support=passes, names=names) if size.support <= self.images else Work(images=passes, names=names)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the best place of a name to forget by each order that shows anything, and the best of all.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if both models are the same to all three orders, or there are no other names.
        """
        others = tuple(dict.fromkeys((*request.retain, *request.background)))
        if not others:
            raise UndefinedError("it guesses among other names, and there is no other name to retain and no background")
        own = [name for concept in request.forget for name in concept.names]
        names = (*own, *others)
        orders = self._orders(before, after, request, names)
        places = {form: _place(scores, len(own)) for form, scores in orders.items() if float(scores.max()) > 1e-6}
        if not places:
            raise UndefinedError("nothing was changed, so there is nothing to read from it")
        best = min(places, key=lambda form: places[form])
        return (
            _reading("disclosure rank", places[best], len(names), best),
            *(_reading("disclosure rank by order", place, len(names), form) for form, place in places.items()),
        )

    def _orders(self, before: Model, after: Model, request: Request, names: Sequence[str]) -> Mapping[str, Tensor]:
        first, second = (unit(class_texts(model, request, names).double()).cpu() for model in (before, after))
        found = {"texts": 1 - (first * second).sum(1)}
        if before.readout("image") is not None:
            found["the last image layer"] = self._by_layer(before, after, first)
        if self.support:
            support = open_support(self.support, open_scene(self.data, self.split, request), self.images)
            was, now = (unit(image_embeddings(model, support, before).rows) for model in (before, after))
            found["scores"] = (now @ second.T - was @ first.T).std(0)
        return found

    def _by_layer(self, before: Model, after: Model, rows: Tensor) -> Tensor:
        change = last_layer(after, "image") - last_layer(before, "image")
        _, values, right = torch.linalg.svd(change, full_matrices=False)
        if float(values[0]) < 1e-6 * float(last_layer(before, "image").norm()):
            return torch.zeros(len(rows), dtype=torch.float64)
        scores: Tensor = (rows @ right[: self.directions].T).abs().amax(1)
        return scores


def _place(scores: Tensor, own: int) -> int:
    """Return the place of the best of the first `own` scores among them and all others, 1 = first."""
    return 1 + int((scores[own:] >= scores[:own].max()).sum())


def _reading(name: str, place: int, count: int, of: str) -> Reading:
    fields = {"value": place, "low": place, "high": place, "count": count}
    return Reading(name=name, better="high", of=of, interval="exact", **fields)
