"""Teach wrong answers: images to be forgotten get a class at random, the others their own."""

from functools import partial
from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.maths.contrastive import classification
from clip_unlearn.methods._training import trained


@final
class RandomLabel(Method):
    """Train images to be forgotten towards a random other class, and images to be retained towards their own.

    L = forget_weight mean_forget -log p(y' | x) + retain_weight mean_retain -log p(y | x), p the zero-shot softmax over
    the class list, y' drawn from the classes that stay. A new y' is drawn in every step, so that no image learns one
    wrong answer by heart; the source draws once. It trains a classifier for 3 epochs with rate 1e-4; what it would be
    for CLIP is not published, the settings are ours. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Graves et al., AAAI 2021, arXiv 2010.10981 (amnesiac unlearning); for CLIP all settings are ours"

    forget_weight: float = Field(default=1.0, gt=0)
    """Weight of the loss of forget images with a random class."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of retain images with their own class."""

    descent: Descent = Descent(steps=80, rate=2e-3, check_every=5)
    """How long, on what and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they have no classes, or show too little of what is to be forgotten or of anything else.
            DivergedError: if the loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences="classes")
        return trained(self, pairs, partial(loss_of, self), self.descent)


def loss_of(method: RandomLabel, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    forget, retain = step.forget, step.retain
    drawn = torch.randint(step.forgotten, len(step.names), forget.labels.shape, generator=step.generator)
    wrong = classification(forget.images, step.names, drawn.to(forget.labels.device), step.scale)
    kept = classification(retain.images, step.names, retain.labels, step.scale)
    return method.forget_weight * wrong + method.retain_weight * kept
