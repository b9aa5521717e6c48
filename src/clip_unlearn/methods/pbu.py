"""Partially blinded unlearning: climb the loss of the class, on a leash of what the weights were."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar, final

from pydantic import Field
from torch import Tensor

from clip_unlearn.core.descent import Slope, descend
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.maths.contrastive import classification
from clip_unlearn.methods._importance import importances
from clip_unlearn.methods._training import patch_of, task_of


@final
class Pbu(Method):
    """Raise the classification loss of images to be forgotten, and hold the weights to where they were.

    L = -mean_forget -log p(y | x) + fisher_weight (w - w0)^T F (w - w0) + distance_weight |w - w0|^2, p the zero-shot
    softmax over the class list, w0 the weights as they were, F the diagonal Fisher matrix of w0 on images to be
    forgotten: mean squares of the gradients of batches. No image to be retained is learned from. The first part has no
    floor; what ends the climb is the look at images held out, among them some to be retained.

    Published weights are 721 and 4001, for a classifier of digits and its own F; nothing is published for CLIP. In the
    embedded world these forget nothing: where a model is sure of the class, its gradient is small and any strong pull
    keeps the weights in place. So F is divided by its mean over all weights here, which makes one `fisher_weight` mean
    much the same in every model, and both weights were chosen anew. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = (
        "Panda et al., AAAI 2025, arXiv 2403.16246; scale of F, all settings and the choice of state are ours"
    )

    fisher_weight: float = Field(default=0.1, ge=0)
    """Weight of changes by their importance to the class, F of mean 1; the paper's alpha."""

    distance_weight: float = Field(default=0.1, ge=0)
    """Weight of changes of any weight, a squared distance; the paper's gamma."""

    fisher_batches: int = Field(default=8, ge=1)
    """Batches of forget images that F is taken on."""

    descent: Descent = Descent(steps=48, rate=1e-3, check_every=4)
    """How long, on what and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they have no classes, or show too little of what is to be forgotten or of anything else.
            DivergedError: if a loss is no number, in training also with half the rate.
        """
        pairs = pairs_of(model, request, sentences="classes")
        task = task_of(self, pairs, loss_of, self.descent)
        found = importances(task, self.descent, batches=self.fisher_batches, fold="square")
        pull = partial(pull_of, self, model.weights, of_mean_one(found))
        return patch_of(model, descend(replace(task, pull=pull), self.descent))


def loss_of(step: Step) -> Tensor:
    """Return what is descended on the images of a step: the negative classification loss of those to be forgotten."""
    forget = step.forget
    return -classification(forget.images, step.names, forget.labels, step.scale)


def of_mean_one(fisher: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors divided by the mean over the entries of all; what is 0 everywhere stays so."""
    mean = sum(float(one.sum()) for one in fisher.values()) / sum(one.numel() for one in fisher.values())
    return {name: one / (mean or 1.0) for name, one in fisher.items()}


def pull_of(
    method: Pbu, before: Mapping[str, Tensor], fisher: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> Slope:
    """Return the gradient of what holds the weights: 2 (fisher_weight F + distance_weight) (w - w0)."""
    return {
        name: 2 * (method.fisher_weight * fisher[name] + method.distance_weight) * (weight - before[name].float())
        for name, weight in weights.items()
    }
