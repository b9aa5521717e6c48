"""Gradient ascent: make the model worse at what is to be forgotten, and at nothing else by intention."""

from functools import partial
from typing import ClassVar, Literal, Self, final

from pydantic import model_validator
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Sentences, pairs_of
from clip_unlearn.maths.contrastive import agreement, classification
from clip_unlearn.methods._training import trained


@final
class Ga(Method):
    """Climb the loss of the images to be forgotten; nothing in the loss holds the others.

    classification: L = mean log p(y | x) over forget images, p the zero-shot softmax over the class list.
    agreement: L = mean v.t over forget pairs, so that 1 - v.t rises.

    Neither has an end: what stops it is the look at images held out, among them images to be retained, whose accuracy
    falls once the climb goes too far. Published CLIP settings are SGD with momentum 0.9 and rate 0.01 (MUNBa) and AdamW
    with rate 1e-7 to 1e-6 (SLUG), both for a fixed number of epochs; small relative steps and the choice of state are
    ours. Expect damage to others: the methods with a retain loss do better.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "gradient ascent, a baseline of most unlearning papers; steps and the choice of state are ours"

    loss: Literal["classification", "agreement"] = "classification"
    """What rises: the classification loss of forget images, or one minus the cosine of matched forget pairs."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(steps=60, rate=1e-3, check_every=4)
    """How long, on what and how fast it trains."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.loss == "classification" and self.sentences == "captions":
            raise ValueError("captions have no classes, so loss=classification cannot use them; give loss=agreement")
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


def loss_of(method: Ga, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the forget pairs of a step."""
    forget = step.forget
    if method.loss == "agreement":
        return agreement(forget.images, forget.texts).mean()
    return -classification(forget.images, step.names, forget.labels, step.scale)
