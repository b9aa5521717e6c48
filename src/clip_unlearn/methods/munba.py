"""Nash bargaining: each step is what forgetting and retaining agree on, however large their losses are."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.descent import Slope, added, descend
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.contrastive import classification
from clip_unlearn.methods._training import patch_of, task_of

OPPOSED: Final = 1e-6
"""A sum of 1 and a cosine below this is rounding noise of gradients that point against each other."""


@final
class Munba(Method):
    """Descend the gradient on which a player who retains and one who forgets agree by Nash's bargaining.

    The losses are mean_retain -log p(y | x) and mean_forget -log p(y' | x), p the zero-shot softmax over the class
    list, y' drawn in every step from the classes that stay. With r and u their gradients, the step descends
    a_r r + a_u u, where G^T G a = 1 / a for G = [r, u] and a positive. The closed form of the source amounts to

        a_r = 1 / (|r| sqrt(1 + c)),   a_u = 1 / (|u| sqrt(1 + c)),   c the cosine of r and u:

    the direction halves the angle between both, and how large the losses are does not count. A step is skipped where
    one gradient is 0 or they point against each other, because nothing is agreed on there.

    The source trains the attention weights of CLIP by SGD with rate 0.01, momentum 0.9 and decay 5e-4, which `weights`
    and `descent` allow. Not every family has attention, and one rate does not suit all; the defaults are ours, as is
    the choice of state. A random class is never the same for long, so images of the class that were not learned from
    come and go near the end. Needs images with classes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "MUNBa, Wu and Harandi, ICCV 2025, arXiv 2411.15537; optimiser and the choice of state are ours"

    weights: Literal["all", "attention"] = "all"
    """Which weights of the trained encoders change: all, or as published those of attention layers, by their names."""

    descent: Descent = Descent(steps=80, rate=4e-3, check_every=5, patience=10)
    """How long, on what and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images, or attention is asked for and no weight belongs to one.
            DataError: if they have no classes, or show too little of what is to be forgotten or of anything else.
            DivergedError: if a loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences="classes")
        task = task_of(self, pairs, kept_of, self.descent)
        if self.weights == "attention":
            task = replace(task, weights=tuple(name for name in task.weights if "attn" in name or "attention" in name))
        if not task.weights:
            raise UnsupportedError("The encoders have no attention layer. Give --set weights=all.")
        return patch_of(model, descend(replace(task, rivals=(wrong_of,), combine=agreed), self.descent))


def kept_of(step: Step) -> Tensor:
    """Return the classification loss of the retain images of a step."""
    return classification(step.retain.images, step.names, step.retain.labels, step.scale)


def wrong_of(step: Step) -> Tensor:
    """Return the classification loss of the forget images of a step, each with a random class that stays."""
    labels = step.forget.labels
    drawn = torch.randint(step.forgotten, len(step.names), labels.shape, generator=step.generator)
    return classification(step.forget.images, step.names, drawn.to(labels.device), step.scale)


def agreed(slopes: Sequence[Slope]) -> Slope:
    """Return the sum of two gradients with the weights of Nash's bargaining, and nothing where there are none.

    Raises:
        ValueError: if there are not two.
    """
    first, second = slopes
    sizes = [math.sqrt(_dot(one, one)) for one in slopes]
    if not all(sizes):
        return {}
    closeness = 1 + _dot(first, second) / (sizes[0] * sizes[1])
    if not closeness > OPPOSED:
        return {}
    weights = [1 / (size * math.sqrt(closeness)) for size in sizes]
    weighed = zip(weights, slopes, strict=True)
    return added([{name: weight * one for name, one in slope.items()} for weight, slope in weighed])


def _dot(first: Slope, second: Slope) -> float:
    """Return the scalar product of two gradients; a weight that one of them lacks counts as 0."""
    products = [(one * second[name]).sum() for name, one in first.items() if name in second]
    return float(torch.stack(products).sum()) if products else 0.0
