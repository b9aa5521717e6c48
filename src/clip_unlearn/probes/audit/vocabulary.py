"""B6: let the forgotten name stand among other words than the class list."""

from collections.abc import Mapping
from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import shares, worst
from clip_unlearn.core.record import Subject
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import class_texts
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._scene import Scene, open_scene
from clip_unlearn.prompts.expand import common_nouns

ANYTHING: Final = "something else"
"""What stands beside the name where there is no other candidate."""


@final
class Vocabulary(Audit):
    """Share of the images of the forgotten that its name wins among 10, 100 and 1,000 other nouns, or among none.

    The fewer and the further the other candidates, the less is needed to win, and an edit that only stays below the
    names of one class list is found out. Nouns that name the same thing or a kind of it are left out; they are drawn
    with the request's seed, and larger sets hold the smaller ones. Among none, the name stands against "something
    else"; that is no part of the worst case, because to a model that never saw the class both are the same to it.
    """

    code: ClassVar = "B6"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    sizes: tuple[int, ...] = (10, 100, 1000)
    """How many nouns stand beside the name."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the largest set of nouns and the forgotten, by both models."""
        nouns = size.text_towers * max(self.sizes) * size.templates
        return Work(images=2 * size.forgotten, names=size.names + nouns)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the share for every set, before, after and paired, and that of the worst set.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        scene = open_scene(self.data, self.split, request)
        was, now = self._won(before, scene), self._won(after, scene)
        sides: tuple[tuple[Subject, dict[str, Tensor]], ...] = (("before", was), ("after", now))
        return (
            *(worst("worst vocabulary accuracy", _nouns(won), subject=subject, what="sets") for subject, won in sides),
            *(reading for of in was for reading in shares("vocabulary accuracy", was[of], now[of], "low", of=of)),
        )

    def _won(self, model: Model, scene: Scene) -> dict[str, Tensor]:
        request, shown = scene.request, scene.shown(model)
        nouns = common_nouns(without=[name for concept in request.forget for name in concept.names])
        order = torch.randperm(len(nouns), generator=torch.Generator().manual_seed(request.seed)).tolist()
        others = class_texts(model, request, [nouns[place] for place in order[: max(self.sizes)]])
        sets = {f"{min(size, len(others))} nouns": others[:size] for size in self.sizes}
        sets[ANYTHING] = class_texts(model, request, [ANYTHING])
        own = scene.texts(model)
        return {of: _beats(shown.rows, own[shown.labels(scene.images)], rows) for of, rows in sets.items()}


def _nouns(won: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {of: hits for of, hits in won.items() if of != ANYTHING}


def _beats(images: Tensor, own: Tensor, others: Tensor) -> Tensor:
    """Return which images are nearer to their own row than to all others: [n, d], [n, d], [k, d] -> [n]."""
    pictures = unit(images.float())
    return ((pictures * unit(own.float())).sum(1) > (pictures @ unit(others.float()).T).amax(1)).cpu()
