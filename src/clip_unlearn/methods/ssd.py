"""Selective synaptic dampening: shrink the weights that matter to the class far more than to everything."""

from functools import partial
from typing import ClassVar, Literal, TypeAlias, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from clip_unlearn.core.descent import Descended
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Pairs, Sentences, pairs_of
from clip_unlearn.methods._importance import Fold, importances
from clip_unlearn.methods._training import patch_of, task_of

Basis: TypeAlias = Literal["classification", "scores"]


@final
class Ssd(Method):
    """Shrink every weight whose importance to images to be forgotten is many times that to all images; train nothing.

    Where I_f > selection I_D:  w <- w min(1, dampening I_D / I_f), element by element.

    classification: I is the mean over batches of (d/dw mean -log p(y | x))^2, p the zero-shot softmax over the class
    list: the diagonal of the Fisher matrix of batches. scores: I is that of |d/dw mean_x sum_k z_k(x)^2|, z the model's
    scores of all classes, which needs no label (the source takes the squared length of a network's output; that of a
    unit embedding does not change). I_f is over images to be forgotten, I_D over all, each a pass over the images that
    are learned from. The logit scale is left out.

    selection 10 and dampening 1 are the usual published values. I_D is that of a batch, so it falls with the size of
    the batch, and more weights are shrunk: 64 was published for CLIP with a selection of 30, and was found delicate.
    Both importances take batches of the same size here. There is one edit, with no search over settings: images held
    out only tell whether it is better than none.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = (
        "Foster et al., AAAI 2024, arXiv 2308.07707; without labels 2402.19308; class list, batch and check are ours"
    )

    selection: float = Field(default=10.0, gt=0)
    """How many times more important to the class than to all images a weight must be to be shrunk; alpha."""

    dampening: float = Field(default=1.0, gt=0)
    """Size that shrunk weights keep, as a multiple of the ratio of both importances; lambda."""

    basis: Basis = "classification"
    """What importance is taken from: the loss of images with their class, or the size of all scores, without labels."""

    batch: int = Field(default=32, ge=1)
    """Images of a batch, at most as many as are to be forgotten."""

    batches: int = Field(default=200, ge=1)
    """Most batches of an importance; fewer than a pass over the images make it a guess, and the edit a wild one."""

    towers: Literal["both", "image", "text"] = "both"
    """The encoders whose weights may shrink."""

    part: int | None = Field(default=None, ge=1)
    """Inputs that are embedded with a graph at a time; fewer take less memory. All of a batch if not given."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the shrunk weights, with readings on images held out; empty where those find no improvement.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little, or have no classes where importance is that of their loss.
            DivergedError: if a loss is no number.
        """
        sentences: Sentences = "classes" if self.basis == "classification" else "auto"
        pairs = pairs_of(model, request, sentences=sentences, other_senses=self.other_senses)
        important, everywhere = self._importances(pairs, everything=False), self._importances(pairs, everything=True)
        changed = {}
        for name, one in important.items():
            weight = model.weights[name].detach()
            factor = dampened(one, everywhere[name], self.selection, self.dampening)
            changed[name] = (weight.float() * factor).to(weight.dtype)
        edited = model.replace(changed)
        marks = (pairs.examine(model), pairs.examine(edited))
        best = int(marks[1].order > marks[0].order)
        return patch_of(model, Descended(model=(model, edited)[best], marks=marks, best=best, halved=False))

    def _importances(self, pairs: Pairs, *, everything: bool) -> dict[str, Tensor]:
        """Return the importance of every weight to the images to be forgotten, or to all of them in their shares."""
        forget, retain = len(pairs.forget), len(pairs.retain)
        size = min(self.batch, forget)
        share = round(size * forget / (forget + retain)) if everything else size
        settings = Descent(
            towers=self.towers,
            forget_batch=max(1, share),
            retain_batch=max(1, size - share),
            part=self.part,
            precision="float32",
        )
        parts = (share, size - share)
        task = task_of(self, pairs, partial(loss_of, self.basis, parts), settings)
        one_pass = -(-(forget + retain if everything else forget) // size)
        fold: Fold = "square" if self.basis == "classification" else "magnitude"
        return importances(task, settings, batches=min(self.batches, one_pass), fold=fold)


def loss_of(basis: Basis, counts: tuple[int, int], step: Step) -> Tensor:
    """Return what the importance of weights is the gradient of, on so many forget and retain images of a step."""
    sides = [side for side, count in zip((step.forget, step.retain), counts, strict=True) if count]
    scores = step.scale * torch.cat([side.images for side in sides]) @ step.names.T
    if basis == "scores":
        return scores.square().sum(1).mean()
    return cross_entropy(scores, torch.cat([side.labels for side in sides]))


def dampened(important: Tensor, everywhere: Tensor, selection: float, dampening: float) -> Tensor:
    """Return the factor on each weight: min(1, dampening I_D / I_f) where I_f > selection I_D, and 1 elsewhere.

    `important` is I_f, `everywhere` I_D. Range [0, 1].
    """
    chosen = important > selection * everywhere
    return torch.where(chosen, (dampening * everywhere / important).clamp(max=1.0), 1.0)
