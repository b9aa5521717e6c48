"""Move one weight tensor along a gradient that is taken once, just so far that a class is gone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core import journal
from clip_unlearn.core.descent import Descended
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Pairs, Sentences, pairs_of
from clip_unlearn.maths.contrastive import agreement, contrastive
from clip_unlearn.methods._layers import Layer, front, mean_gradient, tower_layers, turning_point
from clip_unlearn.methods._training import patch_of, task_of


@final
class Slug(Method):
    """Update a single weight tensor by one step along a gradient of the model as it was.

    g_f is the gradient of mean v.t over forget pairs, g_r that of the contrastive loss of retain pairs, both averaged
    over some batches. In each tower the candidates are the tensors on the Pareto front of small |cos(g_f, g_r)| and
    large ||g_f|| / ||w||; biases, positions and embedding tables are none. Of a candidate the smallest rate is sought
    at which w - rate g_f leaves no more than the share `stop` of the images held out recognised:
    0.1 ||w|| / ||g_f|| is doubled until it does, and the rate is then bisected. The candidate whose rate leaves the
    best balance of forgotten and retained is taken, and it alone is changed.

    As published but for three things: the search looks at images of the request that are held out, where the published
    one looks at the very sets that it reports; no image may be recognised at first place, instead of among the first
    five; and the tensor is chosen by that rule instead of by hand. Nothing is trained: what it costs are the looks,
    some fifteen for every candidate, of which there are a handful in each tower.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Cai et al., ICML 2025, arXiv 2407.11867; search on images held out and choice of layer are ours"

    towers: Literal["both", "image", "text"] = "both"
    """The encoders in which the tensor may lie."""

    batches: int = Field(default=8, ge=1)
    """Batches whose gradients are averaged."""

    forget_batch: int = Field(default=16, ge=1)
    """Images of what is to be forgotten in a batch."""

    retain_batch: int = Field(default=32, ge=1)
    """Images of what is to be retained in a batch."""

    start: float = Field(default=0.1, gt=0)
    """Length of the first step tried, as a share of that of the tensor."""

    doublings: int = Field(default=8, ge=0)
    """How often the step is doubled at most; a candidate that does not forget then is dropped."""

    bisections: int = Field(default=10, ge=0)
    """How often the interval of the last doubling is halved."""

    stop: float = Field(default=0.0, ge=0, lt=1)
    """Share of the images held out that may still be recognised as what is to be forgotten."""

    sentences: Sentences = "auto"
    """What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    part: int | None = Field(default=None, ge=1)
    """Inputs that are embedded with a graph at a time; all of a batch if not given."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the encoders' passes with a graph; auto takes bfloat16 where the device computes it natively."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the change of one tensor, with readings on images held out; empty where no candidate forgets.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little of what is to be forgotten or of anything else.
            DivergedError: if a gradient is no number.
        """
        pairs = pairs_of(model, request, sentences=self.sentences, other_senses=self.other_senses)
        candidates = self._candidates(pairs)
        before, best = pairs.examine(model), None
        for place, layer in enumerate(candidates):
            report("forget", place, len(candidates))
            rate = self._rate(pairs, layer)
            if rate is None:
                continue
            edited = moved(model, layer, rate)
            found = _Found(model=edited, mark=pairs.examine(edited))
            best = found if best is None or found.mark.order > best.mark.order else best
        report("forget", len(candidates), len(candidates))
        if best is None:
            reason = "No single tensor brought the images held out to the stop, however far it was moved."
            return Patch(reason=reason, readings=before.readings("before"))
        better = best.mark.order > before.order
        chosen = best.model if better else model
        return patch_of(model, Descended(model=chosen, marks=(before, best.mark), best=int(better), halved=False))

    def _candidates(self, pairs: Pairs) -> tuple[Layer, ...]:
        image, text = tower_layers(pairs.model, self._gradients(pairs, "forget"), self._gradients(pairs, "retain"))
        return (*front(image), *front(text))

    def _gradients(self, pairs: Pairs, side: Literal["forget", "retain"]) -> Mapping[str, Tensor]:
        settings = Descent(
            towers=self.towers,
            forget_batch=self.forget_batch,
            retain_batch=self.retain_batch,
            part=self.part,
            precision=self.precision,
        )
        loss = agreement_of if side == "forget" else contrast_of
        task = task_of(self, pairs, loss, settings, stage=side)
        return mean_gradient(task, settings, batches=self.batches)

    def _rate(self, pairs: Pairs, layer: Layer) -> float | None:
        """Return the smallest rate found at which a candidate forgets, or None."""

        def forgets(rate: float) -> bool:
            return pairs.examine(moved(pairs.model, layer, rate)).forget_accuracy <= self.stop

        def search() -> dict[str, Tensor]:
            first = self.start / layer.importance
            _, rate = turning_point(forgets, first, doublings=self.doublings, bisections=self.bisections)
            return {} if rate is None else {"rate": torch.tensor(rate, dtype=torch.float64)}

        model = pairs.model
        key = [type(self).__name__, self.model_dump(mode="json"), pairs.request.digest, model.fingerprint, layer.name]
        found = journal.step([*key, str(model.device)], search)
        return float(found["rate"]) if found else None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Found:
    """A candidate at its smallest rate."""

    model: Model
    mark: Mark


@torch.no_grad()
def moved(model: Model, layer: Layer, rate: float) -> Model:
    """Return the model with one weight at w - rate g_f."""
    weight = model.weights[layer.name].detach()
    step = rate * layer.gradient.to(weight.device)
    return model.replace({layer.name: (weight.float() - step).to(weight.dtype)})


def agreement_of(step: Step) -> Tensor:
    """Return the mean cosine of the forget pairs of a step."""
    return agreement(step.forget.images, step.forget.texts).mean()


def contrast_of(step: Step) -> Tensor:
    """Return the contrastive loss of the retain pairs of a step."""
    return contrastive(step.retain.images, step.retain.texts, step.scale)
