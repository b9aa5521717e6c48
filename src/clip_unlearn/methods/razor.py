"""Train the few layers that matter much to a class and little to the rest, with three losses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.descent import Loss, descend, trained_weights
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Pairs, Sentences, pairs_of
from clip_unlearn.maths.contrastive import agreement, contrastive
from clip_unlearn.methods._layers import Layer, mean_gradient, tower_layers
from clip_unlearn.methods._training import patch_of, task_of


@final
class Razor(Method):
    """Train the layers whose ratio of pressure to forget and size is large where retaining does not object.

    Every layer has the score ||g_f|| / ||w|| (1 - cos(g_f, g_r))^power: g_f the gradient of -mean v.t over forget
    pairs, the loss that rises as they are forgotten, g_r that of the contrastive loss of retain pairs, both of the
    model as it was and averaged over some batches. Layers are taken by score, the largest first, until they have the
    share `threshold` of the sum of all scores; biases, positions and embedding tables are no layers. Those alone are
    trained:

    L = contrastive loss over a batch of retain pairs
      + forget_weight rho mean v.t over forget pairs
      + mismatch_weight mean (1 - v.t'), t' the sentence of a retain pair, drawn for each forget image in every step,

    rho = ||g_r|| / ||g_f|| over the chosen layers, so that a forget_weight of 1 pulls as strongly as retaining does at
    the start; 1 where retain pairs have no gradient. Known to us of the paper are the score, that several layers are
    edited up to a threshold, and the sum of three losses. What each loss is, the sign of g_f, rho, all weights, the
    optimiser, and that layers are chosen once are our choices; the paper scores attention heads too, and its set grows
    as it goes.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "after Ranjan et al. 2026, arXiv 2603.14819; losses and all numbers are ours"

    power: float = Field(default=1.0, ge=0)
    """How much a layer loses by a gradient that retaining shares, the paper's alpha; 0 ignores it."""

    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of the sum of all scores that the trained layers have; 1 trains all."""

    score_batches: int = Field(default=8, ge=1)
    """Batches whose gradients are averaged for the scores."""

    forget_weight: float = Field(default=1.0, ge=0)
    """Weight of the cosine of forget pairs, the paper's lambda f."""

    mismatch_weight: float = Field(default=1.0, ge=0)
    """Weight of matching forget images with other sentences, the paper's lambda m."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: Descent = Descent(steps=60, rate=3e-3)
    """How long, on what and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed layers, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little of what is to be forgotten or of anything else.
            DivergedError: if a loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences=self.sentences, other_senses=self.other_senses)
        edit = self._edit(pairs)
        if not edit.names:
            reason = "No layer has a gradient by which images would be forgotten."
            return Patch(reason=reason, readings=pairs.examine(model).readings("before"))
        settings = Descent(**{**self.descent.model_dump(), "towers": edit.towers})
        task = task_of(self, pairs, partial(loss_of, self, edit.ratio), settings)
        return patch_of(model, descend(replace(task, weights=edit.names), settings))

    def _edit(self, pairs: Pairs) -> "_Edit":
        known, retained = self._gradients(pairs, "forget", known_of), self._gradients(pairs, "retain", contrast_of)
        towers = tower_layers(pairs.model, known, retained)
        names = chosen((*towers[0], *towers[1]), power=self.power, threshold=self.threshold)
        inside = [any(layer.name in names for layer in layers) for layers in towers]
        lengths = [math.hypot(*(float(found[name].norm()) for name in names)) for found in (known, retained)]
        return _Edit(
            names=tuple(name for name in trained_weights(pairs.model, self.descent.towers) if name in names),
            towers="both" if all(inside) else "image" if inside[0] else "text",
            ratio=lengths[1] / lengths[0] if all(lengths) else 1.0,
        )

    def _gradients(self, pairs: Pairs, stage: str, loss: Loss) -> Mapping[str, Tensor]:
        task = task_of(self, pairs, loss, self.descent, stage=stage)
        return mean_gradient(task, self.descent, batches=self.score_batches)


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """What is trained, and how the losses are balanced."""

    names: tuple[str, ...]
    towers: Literal["both", "image", "text"]
    """Where they lie; a tower without any is not run."""

    ratio: float
    """The rho of the class's docstring."""


def score(layer: Layer, power: float) -> float:
    """Return ||g_f|| / ||w|| (1 - cos(g_f, g_r))^power of a layer; at least 0."""
    return layer.importance * math.pow(max(0.0, 1 - layer.alignment), power)


def chosen(layers: Sequence[Layer], *, power: float, threshold: float) -> frozenset[str]:
    """Return the names of the layers of largest score, as few as have the share `threshold` of the sum of all."""
    scores = {layer.name: score(layer, power) for layer in layers}
    wanted, names, total = threshold * sum(scores.values()), list[str](), 0.0
    for name in sorted(scores, key=lambda each: -scores[each]):
        if total >= wanted and names:
            break
        names.append(name)
        total += scores[name]
    return frozenset(names)


def loss_of(method: Razor, ratio: float, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the pairs of a step."""
    forget, total = step.forget, contrast_of(step)
    if method.forget_weight:
        total = total + method.forget_weight * ratio * agreement(forget.images, forget.texts).mean()
    if method.mismatch_weight:
        others = step.retain.texts
        drawn = torch.randint(len(others), (len(forget.images),), generator=step.generator)
        wrong = others[drawn.to(others.device)]
        total = total + method.mismatch_weight * (1 - agreement(forget.images, wrong)).mean()
    return total


def known_of(step: Step) -> Tensor:
    """Return what rises as the forget pairs of a step are forgotten: less than nothing, the mean of their cosines."""
    return -agreement(step.forget.images, step.forget.texts).mean()


def contrast_of(step: Step) -> Tensor:
    """Return the contrastive loss of the retain pairs of a step."""
    return contrastive(step.retain.images, step.retain.texts, step.scale)
