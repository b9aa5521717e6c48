"""Pull matched pairs apart, keep the others together, and keep their similarities as they were."""

from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Sentences, pairs_of
from clip_unlearn.maths.contrastive import agreement, contrastive, similarity_divergence
from clip_unlearn.methods._training import trained


@final
class Cliperase(Method):
    """Lower the cosine of images and sentences to be forgotten, with a contrastive and a consistency loss on others.

    L = forget_weight mean v.t over forget pairs (forgetting module)
      + retain_weight contrastive loss over a batch of retain pairs, both directions (retention module)
      + consistency_weight [KL(p_before || p) image to text + the same text to image] (consistency module),

    p the softmax of scale x cosines within the batch of retain pairs, scale that of the model and not trained. A weight
    of 0 takes a module out. The paper leaves open backbone, temperature, prompts and the exact distributions of the
    consistency module; these are our choices. Trains both towers on images with their class in a template, or with
    captions.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Yang et al., ACL 2025, arXiv 2410.23330; floor, optimiser and the choice of state are ours"

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the retention module, the paper's lambda 1."""

    forget_weight: float = Field(default=3.0, ge=0)
    """Weight of the forgetting module, the paper's lambda 2."""

    consistency_weight: float = Field(default=3.0, ge=0)
    """Weight of the consistency module, the paper's lambda 3."""

    floor: Literal["none", "neutral"] = "none"
    """How far forget pairs are pulled apart: without end, as published, or down to the mean cosine that their images
    had with the sentences of retain pairs, below which a forgotten class is easier to tell than a class never seen."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(rate=2e-3)
    """How long, on what and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little of what is to be forgotten or of anything else.
            DivergedError: if the loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences=self.sentences, other_senses=self.other_senses)
        return trained(self, pairs, partial(loss_of, self), self.descent)


def loss_of(method: Cliperase, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the pairs of a step."""
    forget, retain = step.forget, step.retain
    total = torch.zeros((), device=forget.before_images.device)
    if method.forget_weight:
        cosines = agreement(forget.images, forget.texts)
        if method.floor == "neutral":
            cosines = cosines.maximum((forget.before_images @ retain.before_texts.T).mean(1))
        total = total + method.forget_weight * cosines.mean()
    if method.retain_weight:
        total = total + method.retain_weight * contrastive(retain.images, retain.texts, step.scale)
    if method.consistency_weight:
        before = (retain.before_images, retain.before_texts)
        moved = similarity_divergence(retain.images, retain.texts, *before, step.scale)
        total = total + method.consistency_weight * moved
    return total
