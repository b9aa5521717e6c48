"""Decouple the two modalities of what is to be forgotten, and keep each of them and their other ties as they were."""

from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import mse_loss

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Side, Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Sentences, pairs_of
from clip_unlearn.maths.unlearning import similarity_error
from clip_unlearn.methods._training import trained


@final
class Multidelete(Method):
    """Give images and sentences to be forgotten the similarities of unrelated ones; keep all else by squared errors.

    L = decoupling_weight MD + multimodal_weight MKR + unimodal_weight UKR,

    MD: 2 mean_ij (v_i.t_j - v'_i.t'_s(j))^2 over forget pairs, v' and t' by the model before, s(j) another sentence
    (modality decoupling). MKR: the same of retain pairs with their own sentences (multimodal knowledge retention).
    UKR: mean squared errors of the embeddings themselves, of images plus of sentences (unimodal knowledge retention).

    The source is about models with a fusion encoder, whose output is what its MKR holds; a dual encoder has none, and
    in-batch similarities take its place as they do in the source's MD for retrieval. It shuffles sentences within the
    batch of forget pairs, which changes nothing when all show one class, so here s(j) is drawn from retain pairs by
    default. Keeping the embeddings of forget pairs, as its code does, works against MD in a dual encoder, whose cosines
    are those of the embeddings; a mean over many entries is small beside MD, and loses. Steps are ours. Trains on
    images with their class in a template, or with captions.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Cheng and Amiri, ECCV 2024, arXiv 2311.12047; written out for dual encoders by us"

    decoupling_weight: float = Field(default=1.0, gt=0)
    """Weight of modality decoupling."""

    multimodal_weight: float = Field(default=1.0, ge=0)
    """Weight of multimodal knowledge retention."""

    unimodal_weight: float = Field(default=1.0, ge=0)
    """Weight of unimodal knowledge retention."""

    strangers: Literal["retain", "forget"] = "retain"
    """Where another sentence comes from: retain pairs, or, as published, the other forget pairs of the step, which
    takes captions or several classes."""

    unimodal_pairs: Literal["forget", "retain", "both"] = "forget"
    """Whose embeddings unimodal retention keeps; forget pairs, as published, or others."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(steps=80, rate=1e-3, check_every=5)
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


def loss_of(method: Multidelete, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the pairs of a step."""
    forget, retain = step.forget, step.retain
    decoupled = similarity_error(forget.images, forget.texts, forget.before_images, _strangers(method, step))
    tied = similarity_error(retain.images, retain.texts, retain.before_images, retain.before_texts)
    sides = {"forget": (forget,), "retain": (retain,), "both": (forget, retain)}[method.unimodal_pairs]
    held = torch.stack([_embedding_error(side) for side in sides]).mean()
    return method.decoupling_weight * decoupled + method.multimodal_weight * tied + method.unimodal_weight * held


def _strangers(method: Multidelete, step: Step) -> Tensor:
    """Return, by the model before, another sentence for every forget pair: [n, d]."""
    count = len(step.forget.before_texts)
    if method.strangers == "forget":
        return step.forget.before_texts[torch.randperm(count, generator=step.generator)]
    texts = step.retain.before_texts
    return texts[torch.randint(len(texts), (count,), generator=step.generator)]


def _embedding_error(side: Side) -> Tensor:
    return mse_loss(side.images, side.before_images) + mse_loss(side.texts, side.before_texts)
