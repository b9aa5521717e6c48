"""The one training loop: a loss, a feed of inputs, and steps down it. n images, d embedding width."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, final

import torch
from accelerate import PartialState
from torch import Tensor

from clip_unlearn.core import journal
from clip_unlearn.core.embedder import Embedder
from clip_unlearn.core.embedding_map import used
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.progress import report
from clip_unlearn.core.step import Feed, Step
from clip_unlearn.core.training import Descent, restore, state_tensors
from clip_unlearn.core.training_state import TrainingState
from clip_unlearn.errors import DivergedError, StorageError

HALF: Final = 0.5
"""Factor on the rate after the loss was no number."""

SECONDS: Final = 10.0
"""Least time between two states that are written to the journal."""

Loss: TypeAlias = Callable[[Step], Tensor]
"""From a step to one number that is to fall."""


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

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """For some weights, 1 where entries may change and 0 where they stay exactly as they are."""

    key: object = ""
    """JSON-able; with the model and the settings, all that the result depends on."""


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
    found, written = journal.last(keys), None
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
    before = task.model.weights
    chosen = {name: weight.to(before[name].dtype) for name, weight in state.chosen.items()}
    return Descended(model=task.model.replace(chosen), marks=state.marks, best=state.best, halved=state.factor < 1.0)


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


def gradient(
    task: Task, settings: Descent, weights: Mapping[str, Tensor], number: int
) -> tuple[float, dict[str, Tensor]]:
    """Return the task's loss at some weights on the inputs of a step, and its gradient.

    Raises:
        FloatingPointError: if either is no number.
    """
    draft, precision = task.model.replace(dict(weights)), settings.autocast(task.model)
    embedder = Embedder(draft, settings.trains, part=settings.part, precision=precision)
    with torch.enable_grad():
        loss = task.loss(Step(inputs=task.feed(number), embedder=embedder))
        found = embedder.gradients(loss, weights) if loss.requires_grad else {}
    if not all(bool(one.isfinite().all()) for one in (loss, *found.values())):
        raise FloatingPointError(f"the loss or its gradient is no number at step {number}")
    return float(loss.detach()), found


def _start(task: Task) -> TrainingState:
    """Return the state before the first step; half-precision weights are trained in float32."""
    weights = {name: task.model.weights[name].detach().float().clone() for name in task.weights}
    marks = () if task.examine is None else (task.examine(task.model),)
    return TrainingState(weights=weights, marks=marks)


def _leg(task: Task, settings: Descent, state: TrainingState) -> TrainingState:
    """Return the state some steps later, with the rate halved or the parts made smaller where that is needed."""
    try:
        return _stepped(task, settings, state)
    except FloatingPointError as error:
        if state.factor < 1.0:
            raise DivergedError(
                f"Training failed: {error}, also after the rate was halved once. Give a smaller rate, for example "
                f"--set descent.rate={settings.rate / 10:g}."
            ) from error
        return _leg(task, settings, replace(state, factor=HALF))
    except (torch.OutOfMemoryError, MemoryError) as error:
        part = (settings.part or max(settings.forget_batch, settings.retain_batch)) // 2
        if not part:
            raise StorageError("Memory does not hold the pass of a single image. Use another device.") from error
        return _leg(task, Descent(**{**settings.model_dump(), "part": part}), state)


def _stepped(task: Task, settings: Descent, state: TrainingState) -> TrainingState:
    """Return the state after the steps up to the next look."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in state.weights.items()}
    optimiser = settings.make(list(leaves.values()))
    restore(optimiser, state.optimiser)
    losses = list(state.losses)
    end = min(settings.steps, state.step + settings.check_every)
    for number in range(state.step, end):
        loss, found = gradient(task, settings, leaves, number)
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
    mark = task.examine(task.model.replace(dict(state.weights)))
    if mark.order > state.marks[state.best].order:
        return replace(state, marks=(*state.marks, mark), best=len(state.marks), kept=state.weights, waited=0)
    return replace(state, marks=(*state.marks, mark), waited=state.waited + 1)
