"""Gradient difference: down the loss of what is retained, up the loss of what is to be forgotten."""

from functools import partial
from typing import ClassVar, Literal, Self, final

from pydantic import Field, model_validator
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Side, Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Sentences, pairs_of
from clip_unlearn.maths.contrastive import classification, contrastive
from clip_unlearn.methods._training import trained


@final
class Graddiff(Method):
    """Lower the loss of images to be retained while that of images to be forgotten rises.

    L = retain_weight l(retain images) - forget_weight l(forget images), with l the classification loss, the mean of
    -log p(y | x) with p the zero-shot softmax over the class list, or the contrastive loss of a batch of pairs, which
    needs no classes. Known as NegGrad+ and GAFT too. The second part has no floor and outgrows the first one when it is
    let: the state is chosen on images held out. Where forget and retain images resemble each other, descent of this
    loss can move away from a model that never saw the former (arXiv 2509.26427). Papers leave the weights for CLIP
    open; ours are chosen on the embedded world.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "NegGrad+, Kurmanji et al., NeurIPS 2023, arXiv 2302.09880; for CLIP all settings are ours"

    forget_weight: float = Field(default=0.2, gt=0)
    """Weight of the loss of forget images, which rises; the gamma of papers."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of retain images, which falls."""

    loss: Literal["classification", "contrastive"] = "classification"
    """What falls for the one and rises for the other."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(steps=80, rate=4e-3, check_every=5)
    """How long, on what and how fast it trains."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.loss == "classification" and self.sentences == "captions":
            raise ValueError("captions have no classes, so loss=classification cannot use them; give loss=contrastive")
        return self

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little, or have no classes where the loss needs them.
            DivergedError: if the loss is no number, also with half the rate.
        """
        sentences = "classes" if self.loss == "classification" else self.sentences
        pairs = pairs_of(model, request, sentences=sentences, other_senses=self.other_senses)
        return trained(self, pairs, partial(loss_of, self), self.descent)


def loss_of(method: Graddiff, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    kept, gone = (_one_side(method, step, side) for side in (step.retain, step.forget))
    return method.retain_weight * kept - method.forget_weight * gone


def _one_side(method: Graddiff, step: Step, side: Side) -> Tensor:
    if method.loss == "contrastive":
        return contrastive(side.images, side.texts, step.scale)
    return classification(side.images, step.names, side.labels, step.scale)
