"""Saliency unlearning: wrong answers for the class, learned by the weights alone that the class depends on."""

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, final

import torch
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
from clip_unlearn.methods._importance import importances
from clip_unlearn.methods._training import task_of, trained


@final
class Salun(Method):
    """Train images to be forgotten towards random other classes, on the weights that matter most to them.

    L = forget_weight mean_forget -log p(y' | x) + retain_weight mean_retain -log p(y | x), p the zero-shot softmax over
    the class list, y' drawn in every step from the classes that stay. It is descended on the share `keep` of all
    weights whose |d/dw mean_forget -log p(y | x)| is largest in the model as it was, over some batches. The others keep
    their values to the bit: neither decay nor momentum leaks to them, as it did in public code until 2026.

    The share of one half is published. What the method is for a dual encoder is not: the loss over the class list, the
    steps and the choice of state are ours. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Fan et al., ICLR 2024, arXiv 2310.12508; for CLIP all settings but the share are ours"

    keep: float = Field(default=0.5, gt=0, le=1)
    """Share of the weights of the trained encoders that may change; one without a gradient is never among them."""

    mask_batches: int = Field(default=8, ge=1)
    """Batches of forget images whose gradient chooses them."""

    forget_weight: float = Field(default=1.0, gt=0)
    """Weight of the loss of forget images with a random class."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of retain images with their own class."""

    descent: Descent = Descent(steps=80, rate=2e-3, check_every=5, patience=10)
    """How long, on what and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they have no classes, or show too little of what is to be forgotten or of anything else.
            DivergedError: if a loss is no number, in training also with half the rate.
        """
        pairs = pairs_of(model, request, sentences="classes")
        task = task_of(self, pairs, known_of, self.descent, stage="mask")
        found = importances(task, self.descent, batches=self.mask_batches, fold="gradient")
        return trained(self, pairs, partial(loss_of, self), self.descent, masks=salient(found, self.keep))


def known_of(step: Step) -> Tensor:
    """Return the classification loss of the forget images of a step."""
    return classification(step.forget.images, step.names, step.forget.labels, step.scale)


def salient(gradients: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """Return True where an entry is among the share of all entries of all tensors that are largest in magnitude.

    Entries as large as the smallest chosen one are chosen too; those that are 0 never are.
    """
    flat = torch.cat([one.abs().flatten().cpu() for one in gradients.values()])
    count = max(1, round(keep * len(flat)))
    least = float(flat.kthvalue(len(flat) - count + 1).values)
    return {name: (one.abs() >= least) & (one != 0) for name, one in gradients.items()}


def loss_of(method: Salun, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the images of a step."""
    forget, retain = step.forget, step.retain
    drawn = torch.randint(step.forgotten, len(step.names), forget.labels.shape, generator=step.generator)
    wrong = classification(forget.images, step.names, drawn.to(forget.labels.device), step.scale)
    if not method.retain_weight:
        return method.forget_weight * wrong
    kept = classification(retain.images, step.names, retain.labels, step.scale)
    return method.forget_weight * wrong + method.retain_weight * kept
