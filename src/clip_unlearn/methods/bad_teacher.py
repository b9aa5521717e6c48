"""Two teachers: one that knows nothing for what is to be forgotten, the model as it was for the rest."""

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
from clip_unlearn.maths.contrastive import divergence
from clip_unlearn.maths.unlearning import shuffled
from clip_unlearn.methods._training import trained


@final
class BadTeacher(Method):
    """Learn images to be forgotten from an incompetent teacher, and images to be retained from the model as it was.

    L = forget_weight mean_forget KL(p_bad || p) + retain_weight mean_retain KL(p_before || p),

    p the zero-shot softmax over the class list. p_bad is p_before with the names shuffled, in a new order for every
    image and step: as sure as the model was, of a class at random. The source's incompetent teacher is a network with
    random weights; checkpoints of dual encoders do not record how theirs were drawn. The source trains a classifier
    for 1 epoch with Adam, rate 1e-4, on all forget and 30 % of retain images together. For CLIP nothing is published;
    weights and steps are ours. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Chundawat et al., AAAI 2023, arXiv 2205.08096; shuffled names as the bad teacher are ours"

    forget_weight: float = Field(default=1.0, gt=0)
    """Weight of the divergence from the incompetent teacher on forget images."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the divergence from the model as it was on retain images."""

    descent: Descent = Descent(steps=120, rate=2e-3, check_every=5)
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


def loss_of(method: BadTeacher, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    forget, retain = step.forget, step.retain
    before_names = step.scale * step.before_names.T
    bad = shuffled(forget.before_images @ before_names, step.generator)
    wrong = divergence(step.scale * forget.images @ step.names.T, bad)
    kept = divergence(step.scale * retain.images @ step.names.T, retain.before_images @ before_names)
    return method.forget_weight * wrong + method.retain_weight * kept
