"""Contrast images to be forgotten with the others: towards these, away from their own class."""

from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.maths.contrastive import classification
from clip_unlearn.maths.unlearning import contrast
from clip_unlearn.methods._training import trained


@final
class ContrastiveUnlearning(Method):
    """Draw the embeddings of images to be forgotten to those of retained classes and drive them from their own class.

    L = forget_weight mean_i [ log sum_{p in P_i} exp(z_i.z_p / temperature) - mean_a z_i.z_a / temperature ]
      + retain_weight mean_retain -log p(y | x),

    z_i over forget images, z_a over the retain images of the step, p the zero-shot softmax over the class list. In the
    source P_i are retained images of the same class. When a whole class goes there are none, and it puts a constant in
    place of the sum (`own=none`), so that nothing drives images from their class. A dual encoder has that class in the
    same space as a sentence, which takes the place of P_i by default. The source is about classifiers; weights and
    temperature are those of its public code, steps are ours. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Lee et al., IJCAI 2025, arXiv 2401.10458; the sentence as what repels, and steps, are ours"

    own: Literal["name", "images", "none"] = "name"
    """What stands for the own class and repels: its sentence, the other images of the class in the step, or nothing, as
    published for whole classes."""

    temperature: float = Field(default=0.7, gt=0)
    """Divisor of cosines in the contrastive part."""

    forget_weight: float = Field(default=3.0, gt=0)
    """Weight of the contrastive part, the paper's lambda UL."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the classification loss of retain images, the paper's lambda CE."""

    descent: Descent = Descent(steps=80, rate=1e-3, check_every=5)
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


def loss_of(method: ContrastiveUnlearning, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    forget, retain = step.forget, step.retain
    repelling, repels = _own(method, step)
    moved = contrast(forget.images, retain.images, repelling, repels, method.temperature)
    kept = classification(retain.images, step.names, retain.labels, step.scale)
    return method.forget_weight * moved + method.retain_weight * kept


def _own(method: ContrastiveUnlearning, step: Step) -> tuple[Tensor, Tensor]:
    """Return what repels forget images, and which of it repels which image."""
    images, labels = step.forget.images, step.forget.labels
    if method.own == "name":
        return step.names, one_hot(labels, len(step.names)).bool()
    same = (labels.unsqueeze(1) == labels) & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return images, same if method.own == "images" else torch.zeros_like(same)
