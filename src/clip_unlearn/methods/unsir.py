"""Impair with noise that the model is most wrong about, then repair with images of what stays."""

from dataclasses import replace
from functools import partial
from typing import ClassVar, final

from pydantic import Field
from torch import Tensor

from clip_unlearn.core.descent import Descended, descend
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent, WholeDescent
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import Pairs, pairs_of
from clip_unlearn.maths.contrastive import classification
from clip_unlearn.methods._noise import Learning, NoisyFeed, learned
from clip_unlearn.methods._training import descended, patch_of, task_of


@final
class Unsir(Method):
    """Teach the model to call noise by the name of the class that it resembles least, then train on what stays.

    Noise z is learned for every class to be forgotten, on the model as it was and in normalised pixels: from a normal
    start it descends -CE + penalty |z|^2, CE = -log p(own class | z), p the zero-shot softmax over the class list.

    impair: L = forget_weight mean_z -log p(y | z) + retain_weight mean_retain -log p(y | x), y the class that the noise
    was learned for; repair: L = mean_retain -log p(y | x), from the state that the first phase ended with.

    Published for classifiers: one epoch of each, with 500 images of each class to be retained. For CLIP nothing is
    published. Here an image tower that trains learns the noise by heart and goes on knowing photographs, so only the
    text tower is trained by default: the name leaves its images for the place of the noise, and what the image tower
    knows stays. Long or fast repair brings the class back, because that is what retaining the others does to its name,
    so each phase ends with its best state on images held out. Needs images with classes; those to be forgotten are
    looked at and never learned from.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Tarun et al., IEEE TNNLS 2023, arXiv 2111.08947; towers, rates and the choice of state are ours"

    noises: int = Field(default=16, ge=1)
    """Noises of each class to be forgotten."""

    noise_steps: int = Field(default=25, ge=1)
    """Steps of the noise."""

    noise_rate: float = Field(default=0.1, gt=0, le=10)
    """Learning rate of the noise, for Adam."""

    penalty: float = Field(default=0.1, ge=0)
    """Weight of the squared length of the noise."""

    forget_weight: float = Field(default=1.0, gt=0)
    """Weight of the loss of noise while impairing."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of images to be retained while impairing."""

    repair_steps: int = Field(default=20, ge=0)
    """Most steps of the repair; 0 for none."""

    repair_rate: float = Field(default=2e-3, gt=0, le=10)
    """Learning rate of the first step of the repair; all else is as `descent` has it."""

    descent: WholeDescent = Descent(
        steps=60, rate=2e-2, towers="text", forget_batch=16, retain_batch=64, check_every=2, patience=8
    )
    """How long, on how many noises and images and how fast it impairs."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where impairing found no better state.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they have no classes, or show too little of what is to be forgotten or of anything else.
            DivergedError: if the loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences="classes")
        impaired = self._impaired(pairs)
        if not (impaired.best and self.repair_steps):
            return patch_of(model, impaired)
        repair = Descent(**{**self.descent.model_dump(), "steps": self.repair_steps, "rate": self.repair_rate})
        repaired = descended(self, pairs, repaired_of, repair, model=impaired.model, stage="repair")
        marks = (impaired.marks[0], *repaired.marks)
        return patch_of(model, replace(repaired, marks=marks, best=repaired.best + 1))

    def _impaired(self, pairs: Pairs) -> Descended:
        """Return the best state of the first phase."""
        how = Learning(
            count=self.noises, steps=self.noise_steps, rate=self.noise_rate, maximise=True, penalty=self.penalty
        )
        names = [group[0] for group in pairs.names]
        noises = learned(pairs.model, pairs.request, names, range(pairs.forgotten), how)
        task = task_of(self, pairs, partial(impaired_of, self), self.descent, stage="impair")
        feed = PairFeed(pairs=pairs, forget_batch=1, retain_batch=self.descent.retain_batch)
        noisy = NoisyFeed(feed=feed, noises=noises, forget_batch=self.descent.forget_batch)
        return descend(replace(task, feed=noisy), self.descent)


def impaired_of(method: Unsir, step: Step) -> Tensor:
    """Return the loss of the first phase: the forget side of the step are noises."""
    forget = step.forget
    called = classification(forget.images, step.names, forget.labels, step.scale)
    return method.forget_weight * called + method.retain_weight * repaired_of(step)


def repaired_of(step: Step) -> Tensor:
    """Return the loss of the second phase: the classification loss of the retain images of a step."""
    return classification(step.retain.images, step.names, step.retain.labels, step.scale)
