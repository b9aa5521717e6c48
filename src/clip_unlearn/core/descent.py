"""The one training loop: a loss, a feed of inputs, and steps down it. n images, d embedding width."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias, final

import torch
from accelerate import PartialState
from torch import Tensor

from clip_unlearn.core import journal
from clip_unlearn.core.embedder import Embedder
from clip_unlearn.core.embedding_map import used
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.model import Adapter, Model, TowerName
from clip_unlearn.core.progress import report
from clip_unlearn.core.step import Feed, Inputs, Step
from clip_unlearn.core.training import Descent, replaced, restore, state_tensors
from clip_unlearn.core.training_state import TrainingState
from clip_unlearn.errors import DivergedError, StorageError

HALF: Final = 0.5
"""Factor on the rate after the loss was no number."""

SECONDS: Final = 10.0
"""Least time between two states that are written to the journal."""

Loss: TypeAlias = Callable[[Step], Tensor]
"""From a step to one number that is to fall."""

Slope: TypeAlias = Mapping[str, Tensor]
"""A gradient by the names of weights; a weight without one stays as it is."""


def added(slopes: Sequence[Slope]) -> Slope:
    """Return the sum of gradients."""
    total: dict[str, Tensor] = {}
    for slope in slopes:
        total |= {name: total[name] + one if name in total else one for name, one in slope.items()}
    return total


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What is trained, on what, towards what."""

    model: Model
    feed: Feed
    loss: Loss
    weights: tuple[str, ...]
    """Names of the weights that change."""

    examine: Callable[[Model], Mark] | None = None
    """What the best state is chosen by, on images that are not learned from; without it the last state is taken."""

    rivals: tuple[Loss, ...] = ()
    """Further losses of the same inputs; each has a graph of its own."""

    combine: Callable[[Sequence[Slope]], Slope] = added
    """What is descended, made of the gradients of the loss and its rivals; a step is skipped where it is empty."""

    pull: Callable[[Mapping[str, Tensor]], Slope] | None = None
    """From the trained weights to a gradient that is added to that of the losses: of what depends on weights alone."""

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """For some weights, 1 where entries may change and 0 where they stay exactly as they are."""

    adapter: Adapter | None = None
    """How the towers are run in training and by `examine`, where that is not as the model itself runs them."""

    key: object = ""
    """JSON-able; with the model and the settings, all that the result depends on."""

    @cached_property
    def wide(self) -> Model:
        """Return the model with all numbers in float32: half precision would swallow small steps."""
        narrow = {
            name: weight.detach().float()
            for name, weight in self.model.weights.items()
            if weight.is_floating_point() and weight.dtype != torch.float32
        }
        return self.model.replace(narrow) if narrow else self.model

    def shipped(self, weights: Mapping[str, Tensor]) -> Model:
        """Return the model with trained weights, in the number format that it came in."""
        before = self.model.weights
        return self.model.replace({name: weight.to(before[name].dtype) for name, weight in weights.items()})


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Descended:
    """The model after training, and what was seen on the way."""

    model: Model
    marks: tuple[Mark, ...]
    """Of every look, the first one before any step."""

    best: int
    """Which look the model is of."""

    halved: bool
    """Whether the rate was halved because the loss was no number."""


def descend(task: Task, settings: Descent) -> Descended:
    """Return the model after descending the task's loss; its best state by `examine`, ties going to the earliest.

    A loss or gradient that is no number is undone to the last look and tried once more with half the rate. Where memory
    runs out, inputs are embedded in smaller and smaller parts. With a journal the newest state is written every ten
    seconds at most, and a run that goes on from it ends with the same bytes.

    Raises:
        DivergedError: if the loss is no number again.
        StorageError: if memory does not hold the pass of a single input, or the disk refuses.
    """
    key = [task.key, task.model.fingerprint, str(task.model.device), settings.model_dump(mode="json")]
    keys = [[*key, looks] for looks in range(2 + settings.steps // settings.check_every)]
    found = journal.last(keys)
    written = None if found is None else keys[found[0]]
    state = _start(task) if found is None else TrainingState.of_tensors(found[1], task.model.device)
    since = time.monotonic()
    while not (state.step >= settings.steps or state.waited >= settings.patience):
        report("forget", state.step, settings.steps)
        state = _looked(task, _leg(task, settings, state))
        if time.monotonic() - since >= SECONDS and PartialState().is_main_process:
            place = -(-state.step // settings.check_every)
            journal.keep(keys[place], state.as_tensors(), instead_of=written)
            written, since = keys[place], time.monotonic()
    report("forget", settings.steps, settings.steps)
    model, halved = task.shipped(state.chosen), state.factor < 1.0
    return Descended(model=model, marks=state.marks, best=state.best, halved=halved)


def trained_weights(model: Model, towers: Literal["both", "image", "text"]) -> tuple[str, ...]:
    """Return the names of the weights of some towers, in the order of the model.

    Parameters that a gradient reaches from the tower's embedding, each once; neither statistics of normalisations nor
    the logit scale.
    """
    seen: set[int] = set()
    names = []
    for name, weight in model.weights.items():
        if isinstance(weight, torch.nn.Parameter) and weight.is_floating_point() and id(weight) not in seen:
            seen.add(id(weight))
            names.append(name)
    chosen: tuple[TowerName, ...] = ("image", "text") if towers == "both" else (towers,)
    reached = {name for tower in chosen for name in used(model, tower, names)}
    return tuple(name for name in names if name in reached)


def readout_weights(model: Model, towers: Literal["both", "image", "text"]) -> tuple[str, ...]:
    """Return the names of the weights of the last linear layer of some towers, in the order of the model."""
    chosen: tuple[TowerName, ...] = ("image", "text") if towers == "both" else (towers,)
    readouts = [readout for readout in map(model.readout, chosen) if readout is not None]
    names = {name for readout in readouts for name in (readout.weight, readout.bias)}
    return tuple(name for name in model.weights if name in names)


def gradient(
    task: Task, settings: Descent, weights: Mapping[str, Tensor], number: int, *, draft: Model | None = None
) -> tuple[float, Mapping[str, Tensor]]:
    """Return the sum of the task's losses at some weights on the inputs of a step, and what is to be descended.

    `weights` are leaves in float32. `draft` is the model that they stand in, for callers who keep one: they may change
    in place.

    Raises:
        FloatingPointError: if a loss or a gradient is no number.
    """
    draft, inputs = draft or task.wide.replace(dict(weights)), task.feed(number)
    run = draft if task.adapter is None else replace(draft, adapter=task.adapter)
    found = [_slope(loss, run, settings, inputs, weights) for loss in (task.loss, *task.rivals)]
    slopes = [slope for _, slope in found]
    with torch.no_grad():
        pulls = [] if task.pull is None else [task.pull(weights)]
        total = added([task.combine(slopes), *pulls])
    parts = [*(loss for loss, _ in found), *(one for slope in (*slopes, *pulls) for one in slope.values())]
    if not all(bool(one.isfinite().all()) for one in parts):
        raise FloatingPointError(f"the loss or its gradient is no number at step {number}")
    return sum(float(loss) for loss, _ in found), total


def _slope(
    loss: Loss, draft: Model, settings: Descent, inputs: Inputs, weights: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return one loss of a model and its gradient."""
    embedder = Embedder(draft, settings.trains, part=settings.part, precision=settings.autocast(draft))
    with torch.enable_grad():
        value = loss(Step(inputs=inputs, embedder=embedder))
        return value.detach(), embedder.gradients(value, weights) if value.requires_grad else {}


def _start(task: Task) -> TrainingState:
    """Return the state before the first step; half-precision weights are trained in float32."""
    weights = {name: task.model.weights[name].detach().float().clone() for name in task.weights}
    marks = () if task.examine is None else (task.examine(task.model),)
    return TrainingState(weights=weights, marks=marks)


def _leg(task: Task, settings: Descent, state: TrainingState) -> TrainingState:
    """Return the state some steps later, with the rate halved or the parts made smaller where that is needed."""
    while True:
        try:
            return _stepped(task, settings, state)
        except FloatingPointError as error:
            state = _slower(settings, state, error)
        except (torch.OutOfMemoryError, MemoryError) as error:
            state = _smaller(settings, state, error)
        # The next try is made out here: an error that is being handled holds on to all that the failed pass made.


def _slower(settings: Descent, state: TrainingState, error: FloatingPointError) -> TrainingState:
    if state.factor < 1.0:
        raise DivergedError(
            f"Training failed: {error}, also after the rate was halved once. Give a smaller rate, for example "
            f"--set descent.rate={settings.rate / 10:g}."
        ) from error
    return replace(state, factor=HALF)


def _smaller(settings: Descent, state: TrainingState, error: Exception) -> TrainingState:
    part = (state.part or settings.part or max(settings.forget_batch, settings.retain_batch)) // 2
    if not part:
        raise StorageError("Memory does not hold the pass of a single image. Use another device.") from error
    return replace(state, part=part)


def _stepped(task: Task, settings: Descent, state: TrainingState) -> TrainingState:
    """Return the state after the steps up to the next look."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in state.weights.items()}
    draft, optimiser = task.wide.replace(leaves), settings.make(list(leaves.values()))
    restore(optimiser, state.optimiser)
    losses, sized = list(state.losses), replaced(settings, part=state.part or settings.part)
    end = min(settings.steps, state.step + settings.check_every)
    for number in range(state.step, end):
        loss, found = gradient(task, sized, leaves, number, draft=draft)
        losses.append(loss)
        for name, leaf in leaves.items():
            leaf.grad = _masked(found.get(name), task.masks.get(name))
        torch.nn.utils.clip_grad_norm_(leaves.values(), settings.clip)
        for group in optimiser.param_groups:
            group["lr"] = settings.rate_at(number, settings.steps, state.factor)
        optimiser.step()
        _put_back(leaves, task)
    weights = {name: leaf.detach() for name, leaf in leaves.items()}
    return replace(state, weights=weights, optimiser=state_tensors(optimiser), step=end, losses=tuple(losses))


def _masked(gradient: Tensor | None, mask: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or mask is None else gradient * mask


def _put_back(leaves: Mapping[str, Tensor], task: Task) -> None:
    """Give masked entries their old values: decay and momentum leak through a mask of the gradient alone."""
    with torch.no_grad():
        for name, mask in task.masks.items():
            leaves[name].copy_(torch.where(mask.bool(), leaves[name], task.model.weights[name].float()))


def _looked(task: Task, state: TrainingState) -> TrainingState:
    """Return the state with its mark, and whether it is the best so far."""
    if task.examine is None:
        return state
    mark = task.examine(task.shipped(state.weights))
    if mark.order > state.marks[state.best].order:
        return replace(state, marks=(*state.marks, mark), best=len(state.marks), kept=state.weights, waited=0)
    return replace(state, marks=(*state.marks, mark), waited=state.waited + 1)
