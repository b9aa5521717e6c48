"""K4: how soon the whole model learns the forgotten again."""

from typing import ClassVar, Final, Literal, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from clip_unlearn.core.anamnesis import RELEARNED
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.descent import Task, descend, trained_weights
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import means, shares
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import Pairs, retained_pairs
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.audit._few import Examples, of_both, open_examples
from clip_unlearn.probes.audit._scene import Scene, open_scene

SEEN: Final = 100
"""Most images of the forgotten that are looked at."""


@final
class RelearnTime(Audit):
    """Steps of training the whole model until the forgotten is named nearly as often as by the original.

    Both towers, on k images of every class that is told apart, those to forget among them: cross-entropy of the cosines
    with the classes' names in a template, at the model's logit scale. Looked at is every few steps; counted is the
    first look at which the images to measure are named right in 90 % of the original's share, and one more than all
    steps where that never happens. At several rates, of which the fastest counts; the mean over several draws of the k
    images.

    The images teach the class, so a model that never saw it gets there too: few steps show something only where such a
    model needs more (its steps over theirs is the anamnesis index, `core.anamnesis`). What an edit of the encoders left
    below the last layer, which `relearning` cannot train, is learned again here.

    Source: relearn time, arXiv 2201.05629.
    """

    code: ClassVar = "K4"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shots: int = Field(default=10, ge=1)
    """Images of every class to learn from."""

    draws: int = Field(default=3, ge=1)
    """How often the images are drawn."""

    rates: tuple[float, ...] = Field(default=(1e-2, 5e-3, 3e-3), min_length=1)
    """Learning rates, as shares of the size of every tensor; what one needs is the most that is tried of the next."""

    steps: int = Field(default=40, ge=1)
    """Most steps at each rate."""

    check_every: int = Field(default=2, ge=1)
    """Steps between two looks."""

    batch: int = Field(default=32, ge=1)
    """Images of a step."""

    share: float = Field(default=0.9, gt=0, le=1)
    """Part of the original's accuracy at which the class counts as learned again."""

    target: float | None = Field(default=None, gt=0, le=1)
    """Share of images named right at which it does, in the place of a part of the original's."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes, where the edited model needs half of the steps at every rate."""
        trained, learned = self.draws * len(self.rates) * self.steps // 2, min(size.support, size.classes * self.shots)
        looks = trained // self.check_every
        names = size.classes * (size.templates * looks + 3 * trained)
        images = 2 * self.draws * learned + looks * min(size.forgotten, SEEN)
        return Work(images=images + 3 * trained * self.batch, sentences=names)

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the steps that both models need with their paired change, and in how many draws they are enough.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if the support has too few images of a class to forget, or the original recognises none of
                the images.
            DivergedError: if the loss is no number.
        """
        scene = open_scene(self.data, self.split, request, count=SEEN)
        examples = open_examples(self.support, scene, shots=self.shots, most=4 * self.shots)
        wanted = self.target or self.share * float(scene.hits(before).double().mean())
        if wanted == 0:
            raise UndefinedError("the original recognises none of the images, so there is nothing to learn again")
        was, now = of_both(lambda model: self._steps(model, scene, examples, wanted), before, after)
        name = f"{self.shots}-shot relearning steps, all layers"
        reached = [steps <= self.steps for steps in (was, now)]
        return (*means(name, was, now, "high"), *shares(f"{RELEARNED}{name}", reached[0], reached[1], "neither"))

    def _steps(self, model: Model, scene: Scene, examples: Examples, wanted: float) -> Tensor:
        """Return the steps of the fastest rate for every draw: [draws]."""
        if float(scene.hits(model).double().mean()) >= wanted:
            return torch.zeros(self.draws, dtype=torch.float64)
        found = []
        for draw in range(self.draws):
            some = examples.some(self.shots, scene.request.seed + draw)
            images = examples.images.take(some.tolist())
            pairs = retained_pairs(model, scene.request, images, embed_images(model, images).kept)
            best = self.steps + 1
            for rate in self.rates:
                best = min(best, self._first(pairs, scene, rate, wanted, before=best) or best)
            found.append(best)
        return torch.tensor(found, dtype=torch.float64)

    def _first(self, pairs: Pairs, scene: Scene, rate: float, wanted: float, *, before: int) -> int | None:
        """Return the steps to the first look at which the class is named again, None if there is none that early."""
        steps = (before - 1) // self.check_every * self.check_every
        if not steps:
            return None
        how = Descent(
            steps=steps,
            rate=rate,
            schedule="constant",
            forget_batch=1,
            retain_batch=self.batch,
            check_every=self.check_every,
            patience=steps + 1,
        )
        looks = 0

        @torch.no_grad()
        def look(model: Model) -> Mark:
            nonlocal looks
            hits = scene.hits(model)
            if looks and float(hits.double().mean()) >= wanted:
                raise _LearnedError
            looks += 1
            return Mark(forget_hits=0, forget_count=len(hits), retain_hits=0, retain_count=0, forget_probability=0.0)

        feed = PairFeed(pairs=pairs, forget_batch=1, retain_batch=self.batch)
        weights = trained_weights(pairs.model, "both")
        try:
            descend(Task(model=pairs.model, feed=feed, loss=_loss, weights=weights, examine=look), how)
        except _LearnedError:
            return looks * self.check_every
        return None


class _LearnedError(Exception):
    """The class is named again, and no more steps are needed."""


def _loss(step: Step) -> Tensor:
    """Return the cross-entropy of choosing the right class among the names."""
    return cross_entropy(step.scale * step.retain.images @ step.names.T, step.retain.labels)
