"""Learn a class several times over, and take away what all the times have in common."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import ClassVar, Final, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from clip_unlearn.core import journal
from clip_unlearn.core.descent import Descended, descend
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Pairs, Sentences, pairs_of
from clip_unlearn.errors import DataError
from clip_unlearn.maths.contrastive import classification, contrastive
from clip_unlearn.methods._layers import turning_point
from clip_unlearn.methods._training import patch_of, task_of

MOST: Final = 10.0
"""Largest learning rate that `Descent` takes."""


@final
class Negmerge(Method):
    """Fine-tune on what is to be forgotten, then go the opposite way in weight space.

    Several models i are trained on the forget pairs alone, each on other batches and at a rate of its own. Their
    changes t_i = w_i - w are merged, t = mean_i t_i where the signs of all t_i agree and 0 elsewhere, and w - c t is
    the result (NegMerge); without `consensus` the mean is taken whole (task arithmetic). The factor c is the largest
    found at which images held out that are to be retained keep the share `keep` of the accuracy they had: doubled from
    1 until they do not, then bisected.

    L = mean -log p(y | x) over forget images, p the zero-shot softmax over the class list; with captions, which name no
    class, the contrastive loss over a batch of forget pairs, both directions.

    The share, the sign rule and the loss are published, for forgetting whole data sets with the image tower alone. For
    one class of many, both towers, steps and rates are ours, and so is that models differ in batches and rate alone:
    the paper also varies augmentation and decay, trains for longer and tries factors up to 1; its models disagree more.
    Nothing is learned from images to be retained, but some must be held out.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = (
        "Kim et al., ICML 2025, arXiv 2410.05583; without consensus Ilharco et al., 2023, arXiv 2212.04089; steps, "
        "rates and search are ours"
    )

    models: int = Field(default=5, ge=1)
    """How often it is fine-tuned."""

    spread: float = Field(default=2.0, ge=1)
    """Rate of the last fine-tuning over that of the first; the rate of `descent` is in the middle, by factors."""

    consensus: bool = True
    """Keep only entries whose sign is the same in all fine-tuned models; otherwise all."""

    keep: float = Field(default=0.95, gt=0, le=1)
    """Share of the accuracy on images to be retained that are held out which must be kept."""

    factor: Literal["largest", "enough"] = "largest"
    """Which factor is taken: the largest allowed one, or the smallest found that leaves no more images held out
    recognised than that one; public code of task arithmetic takes the latter, of a grid."""

    doublings: int = Field(default=6, ge=0)
    """How often the factor 1 is doubled at most."""

    bisections: int = Field(default=10, ge=0)
    """How often the interval of the last doubling is halved."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(steps=20)
    """How long, on what and how fast each model is fine-tuned; its looks and retain batches are not used."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.descent.rate * self.spread**0.5 > MOST:
            raise ValueError(f"the last model's rate would be above {MOST:g}; give a smaller spread or descent.rate")
        return self

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where the model is no better for it.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little of what is to be forgotten, or hold nothing out that is to be retained.
            DivergedError: if the loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences=self.sentences, other_senses=self.other_senses)
        if not pairs.held_retain:
            raise DataError(
                "No image of anything else is held out, which the factor is chosen by. Give at least two images of "
                "some other class."
            )
        change = merged(self._changes(pairs), consensus=self.consensus)
        before = pairs.examine(model)
        if not any(bool(one.any()) for one in change.values()):
            reason = "No entry of any weight changes in the same direction in all fine-tuned models."
            return Patch(reason=reason, readings=before.readings("before"))
        edited = negated(model, change, self._factor(pairs, change, before.retain_accuracy))
        marks = (before, pairs.examine(edited))
        best = int(marks[1].order > marks[0].order)
        return patch_of(model, Descended(model=edited if best else model, marks=marks, best=best, halved=False))

    def _factor(self, pairs: Pairs, change: Mapping[str, Tensor], accuracy: float) -> float:
        """Return the factor of the class's docstring; 0 where none that was tried keeps enough."""

        def look(factor: float) -> Mark:
            return pairs.examine(negated(pairs.model, change, factor))

        def lost(factor: float) -> bool:
            return look(factor).retain_accuracy < self.keep * accuracy

        largest, _ = turning_point(lost, 1.0, doublings=self.doublings, bisections=self.bisections)
        if self.factor == "largest":
            return largest
        least = look(largest).forget_hits
        _, enough = turning_point(
            lambda factor: look(factor).forget_hits <= least, largest, doublings=0, bisections=self.bisections
        )
        return largest if enough is None else enough

    def _changes(self, pairs: Pairs) -> Iterator[Mapping[str, Tensor]]:
        """Yield the change of every fine-tuned model."""
        for place in range(self.models):
            yield self._change(pairs, place)

    def _change(self, pairs: Pairs, place: int) -> Mapping[str, Tensor]:
        model, settings = pairs.model, self.descent
        middle = (self.models - 1) / 2
        power = (place - middle) / (2 * middle) if self.models > 1 else 0.0
        settings = Descent(**{**settings.model_dump(), "rate": settings.rate * self.spread**power})
        task = task_of(self, pairs, captions_of if pairs.captioned else classes_of, settings, stage=f"model {place}")
        feed = task.feed
        task = replace(task, examine=None, feed=lambda number: feed(place * settings.steps + number))

        def difference() -> dict[str, Tensor]:
            after = descend(task, settings).model
            return {name: (after.weights[name].float() - model.weights[name].float()) for name in task.weights}

        return journal.step([task.key, "change", model.fingerprint, str(model.device)], difference)


def merged(changes: Iterable[Mapping[str, Tensor]], *, consensus: bool) -> dict[str, Tensor]:
    """Return the mean of changes of the same weights; with `consensus` 0 where their signs are not all the same."""
    signs: dict[str, Tensor] = {}
    total: dict[str, Tensor] = {}
    count = 0
    for change in changes:
        count += 1
        for name, one in change.items():
            sign = one.sign()
            signs[name] = torch.where(signs[name] == sign, sign, 0) if name in signs else sign
            total[name] = total[name] + one if name in total else one
    return {name: one / count * (signs[name] != 0 if consensus else 1) for name, one in total.items()}


@torch.no_grad()
def negated(model: Model, change: Mapping[str, Tensor], factor: float) -> Model:
    """Return the model whose weights are w - factor t."""
    weights = {name: model.weights[name].detach() for name in change}
    return model.replace(
        {
            name: (weight.float() - factor * change[name].to(weight.device)).to(weight.dtype)
            for name, weight in weights.items()
        }
    )


def classes_of(step: Step) -> Tensor:
    """Return the classification loss of the forget images of a step."""
    return classification(step.forget.images, step.names, step.forget.labels, step.scale)


def captions_of(step: Step) -> Tensor:
    """Return the contrastive loss of the forget pairs of a step."""
    return contrastive(step.forget.images, step.forget.texts, step.scale)
