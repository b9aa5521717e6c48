"""W5: train the edited model on other classes and see whether the forgotten one comes back by itself."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.descent import Task, descend, trained_weights
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import Pairs, retained_pairs
from clip_unlearn.maths.contrastive import contrastive
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene, open_support
from clip_unlearn.probes.audit._weights import last_block


@final
class FineTuning(Audit):
    """Accuracy on images of the forgotten while the edited model is trained on images of other classes.

    The contrastive loss over batches of other classes' images with their class in a template, at one rate or several;
    the last block of both towers and what ends them is trained, or all weights. The forgotten is looked at every so
    many steps, and the best look of all counts. No image and no name of it is learned from: what returns was dormant.

    The control is the original with the names taken out of its last image layer.
    """

    code: ClassVar = "W5"
    mechanism: ClassVar = "fine-tuning"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    rates: tuple[float, ...] = Field(default=(5e-3,), min_length=1)
    """Learning rates, as shares of the size of every tensor."""

    depth: Literal["last block", "all"] = "last block"
    """What is trained; the last block costs a third of all."""

    steps: int = Field(default=30, ge=1)
    """Steps at each rate."""

    check_every: int = Field(default=10, ge=1)
    """Steps between two looks."""

    batch: int = Field(default=32, ge=2)
    """Images of a step."""

    images: int = Field(default=1000, ge=1)
    """Most images of other classes to learn from."""

    count: int = Field(default=100, ge=1)
    """Most images of the forgotten to look at."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: two trainings at every rate with looks."""
        looks = 1 + -(-self.steps // self.check_every)
        shown, trainings = min(size.forgotten, self.count), 2 * len(self.rates)
        names = trainings * looks * size.classes * size.templates
        looked = Work(images=trainings * looks * shown, sentences=names)
        pairs = trainings * self.steps * self.batch
        learned = Work(trained=pairs) if self.depth == "all" else Work(images=pairs, sentences=pairs)
        return hiding(size) + Work(support=min(size.support, self.images)) + looked + learned

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy at every look and the best one, of the edited model and of the control.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if there is no support.
            DivergedError: if the loss is no number.
        """
        scene = open_scene(self.data, self.split, request, count=self.count)
        support, control = open_support(self.support, scene, self.images), hidden(before, request, "image")
        readable = embed_images(before, support).kept
        forms = [self._forms(retained_pairs(model, request, support, readable), scene) for model in (control, after)]
        return attacked("fine-tuning accuracy", scene, before, control, (forms[0], forms[1]))

    def _forms(self, pairs: Pairs, scene: Scene) -> Forms:
        found: dict[str, Tensor] = {}
        for rate in self.rates:
            looks = self._looks(pairs, scene, rate)
            places = range(len(looks))
            found |= {
                f"rate {rate:g}, {min(self.steps, self.check_every * place)} steps": looks[place]
                for place in places[1:]
            }
        return found

    def _looks(self, pairs: Pairs, scene: Scene, rate: float) -> list[Tensor]:
        """Return which images are named right at every look, the first before any step."""
        how = Descent(
            steps=self.steps,
            rate=rate,
            forget_batch=1,
            retain_batch=self.batch,
            check_every=self.check_every,
            patience=self.steps + 1,
        )
        looks: list[Tensor] = []

        def look(model: Model) -> Mark:
            with torch.no_grad():
                looks.append(scene.hits(model))
            hits = int(looks[-1].sum())
            return Mark(
                forget_hits=hits, forget_count=len(looks[-1]), retain_hits=0, retain_count=0, forget_probability=0.0
            )

        task = Task(
            model=pairs.model,
            feed=PairFeed(pairs=pairs, forget_batch=1, retain_batch=self.batch),
            loss=_loss,
            weights=trained_weights(pairs.model, "both") if self.depth == "all" else last_block(pairs.model),
            examine=look,
        )
        descend(task, how)
        return looks


def _loss(step: Step) -> Tensor:
    return contrastive(step.retain.images, step.retain.texts, step.scale)
