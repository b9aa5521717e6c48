"""Train on what is retained alone: the reference that shows what training itself does."""

from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, Self, final

from pydantic import model_validator
from torch import Tensor

from clip_unlearn.core.descent import descend
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Sentences, pairs_of
from clip_unlearn.maths.contrastive import classification, contrastive
from clip_unlearn.methods._training import task_of


@final
class FineTune(Method):
    """Train on the images to be retained alone, and forget nothing on purpose.

    contrastive: L = contrastive loss over a batch of retain pairs, both directions.
    classification: L = mean -log p(y | x) over retain images, p the zero-shot softmax over the whole class list.

    The matched reference of methods that train on the same images: what accuracy on retained classes they owe to
    training, and what a model forgets by itself when a class is no longer shown. So it takes the last state, never one
    that was chosen for having forgotten; images held out are only reported. Papers give its settings for classifiers
    or for models of their own; ours are those of the other methods here. For a fair row give it their `descent`.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "the usual reference of unlearning papers; contrastive for CLIP as in SLUG, arXiv 2407.11867"

    loss: Literal["contrastive", "classification"] = "contrastive"
    """Which loss of the retain pairs falls; classification needs classes."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(rate=2e-3)
    """How long, on what and how fast it trains; that of `cliperase` if not given."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.loss == "classification" and self.sentences == "captions":
            raise ValueError("captions have no classes, so loss=classification cannot use them; give loss=contrastive")
        return self

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the weights that training changed, with readings on images held out, which chose nothing.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little, or have no classes where the loss needs them.
            DivergedError: if the loss is no number, also with half the rate.
        """
        sentences = "classes" if self.loss == "classification" else self.sentences
        pairs = pairs_of(model, request, sentences=sentences, other_senses=self.other_senses)
        task = task_of(self, pairs, partial(loss_of, self), self.descent)
        trained = descend(replace(task, examine=None), self.descent).model
        before, after = pairs.examine(model), pairs.examine(trained)
        deltas = Patch.between(model, trained).deltas
        return Patch(deltas=deltas, readings=(*before.readings("before"), *after.readings("after")))


def loss_of(method: FineTune, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the retain pairs of a step."""
    retain = step.retain
    if method.loss == "contrastive":
        return contrastive(retain.images, retain.texts, step.scale)
    return classification(retain.images, step.names, retain.labels, step.scale)
