"""From a method's loss to its patch: what all methods that train on pairs have in common."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from clip_unlearn.core.descent import Descended, Loss, Task, descend, readout_weights, trained_weights
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.training import Descent
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import Pairs


def trained(
    method: Method, pairs: Pairs, loss: Loss, descent: Descent, *, masks: Mapping[str, Tensor] | None = None
) -> Patch:
    """Return the patch that descending a loss on pairs gives, with what was seen of the images held out.

    Raises:
        DivergedError: if the loss is no number, also with half the rate.
    """
    return patch_of(pairs.model, descended(method, pairs, loss, descent, masks=masks))


def descended(
    method: Method,
    pairs: Pairs,
    loss: Loss,
    descent: Descent,
    *,
    model: Model | None = None,
    stage: str = "",
    masks: Mapping[str, Tensor] | None = None,
) -> Descended:
    """Return what descending a loss on pairs gives, from `model` if it is not that of the pairs."""
    return descend(replace(task_of(method, pairs, loss, descent, model=model, stage=stage), masks=masks or {}), descent)


def task_of(
    method: Method, pairs: Pairs, loss: Loss, descent: Descent, *, model: Model | None = None, stage: str = ""
) -> Task:
    """Return the task of descending a loss on pairs, from `model` if it is not that of the pairs.

    `stage` tells tasks of one method apart where it has several.

    Raises:
        UnsupportedError: if the last layers alone are to be trained, and a tower has none of its own.
    """
    start, shallow = model or pairs.model, descent.depth == "readout"
    pairs = pairs.at_readout(descent.trains) if shallow else pairs
    return Task(
        model=start,
        feed=PairFeed(pairs=pairs, forget_batch=descent.forget_batch, retain_batch=descent.retain_batch),
        loss=loss,
        weights=(readout_weights if shallow else trained_weights)(start, descent.towers),
        examine=partial(pairs.examine, moved=descent.trains),
        adapter=pairs.model.adapter,
        key=[type(method).__name__, stage, method.model_dump(mode="json"), pairs.request.digest],
    )


def patch_of(model: Model, found: Descended) -> Patch:
    """Return the difference that training made, with the shares of held-out images that are recognised."""
    patch = Patch.between(model, found.model)
    first, best = found.marks[0], found.marks[found.best]
    reason = "No look at the images held out found a better state than the model as it was." if patch.empty else ""
    return Patch(deltas=patch.deltas, reason=reason, readings=(*first.readings("before"), *best.readings("after")))
