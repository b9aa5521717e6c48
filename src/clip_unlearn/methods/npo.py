"""Negative preference: prefer the old answers less than the model before did, and no further than that pays."""

from functools import partial
from typing import ClassVar, Literal, final

from pydantic import Field
from torch import Tensor
from torch.nn.functional import log_softmax

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Side, Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.maths.contrastive import classification, divergence
from clip_unlearn.maths.unlearning import negative_preference
from clip_unlearn.methods._training import trained


@final
class Npo(Method):
    """Make the class of images to be forgotten less likely than it was before, with a slope that fades as it is.

    L = forget_weight (-2 / beta) mean log sigmoid(-beta [log p(y | x) - log p_before(y | x)]) over forget images
      + retain_weight R, R the mean of -log p(y | x) over retain images, or of KL(p_before || p) on them.

    As beta tends to 0 the first part becomes gradient ascent; the larger beta is, the sooner it lets go of an image
    whose class is unlikely already: its gradient is that of ascent times 2 p^beta / (p^beta + p_before^beta). Written
    for language models, where p is of a text; here p is the zero-shot softmax over the class list, and the weights and
    beta for CLIP are our choice. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Zhang et al., COLM 2024, arXiv 2404.05868; written for zero-shot classes by us"

    beta: float = Field(default=0.5, gt=0)
    """How soon the loss lets go of what is forgotten; papers take 0.1 to 1."""

    forget_weight: float = Field(default=1.0, gt=0)
    """Weight of the negative preference."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of retain images."""

    retention: Literal["classification", "divergence"] = "classification"
    """What holds retain images: their classification loss, or the divergence from the probabilities before."""

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


def loss_of(method: Npo, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    own = step.forget.labels.unsqueeze(1)
    now, before = (log_softmax(logits, dim=1).gather(1, own) for logits in _logits(step, step.forget))
    total = method.forget_weight * negative_preference(now, before, method.beta)
    if method.retention == "divergence":
        return total + method.retain_weight * divergence(*_logits(step, step.retain))
    kept = classification(step.retain.images, step.names, step.retain.labels, step.scale)
    return total + method.retain_weight * kept


def _logits(step: Step, side: Side) -> tuple[Tensor, Tensor]:
    """Return the zero-shot logits of one side's images, by the model in training and by the one before."""
    return step.scale * side.images @ step.names.T, step.scale * side.before_images @ step.before_names.T
