"""Gradient difference: down the loss of what is retained, up the loss of what is to be forgotten."""

from functools import partial
from typing import ClassVar, final

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
class Graddiff(Method):
    """Lower the classification loss of images to be retained while that of images to be forgotten rises.

    L = retain_weight mean_retain -log p(y | x) - forget_weight mean_forget -log p(y | x), p the zero-shot softmax over
    the class list. Known as NegGrad+ and GAFT too. The second part has no floor and outgrows the first one when it is
    let: the state is chosen on images held out. Where forget and retain images resemble each other, descent of this
    loss can move away from a model that never saw the former (arXiv 2509.26427). Papers leave the weights for CLIP
    open; ours are chosen on the embedded world. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "NegGrad+, Kurmanji et al., NeurIPS 2023, arXiv 2302.09880; for CLIP all settings are ours"

    forget_weight: float = Field(default=0.2, gt=0)
    """Weight of the classification loss of forget images, which rises; the gamma of papers."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the classification loss of retain images, which falls."""

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


def loss_of(method: Graddiff, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    forget, retain = step.forget, step.retain
    kept = classification(retain.images, step.names, retain.labels, step.scale)
    gone = classification(forget.images, step.names, forget.labels, step.scale)
    return method.retain_weight * kept - method.forget_weight * gone
