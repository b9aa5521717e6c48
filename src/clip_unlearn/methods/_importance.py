"""How much a loss depends on every weight: gradients of batches, averaged in one way or another."""

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeAlias

import torch
from torch import Tensor

from clip_unlearn.core.descent import Slope, Task, gradient
from clip_unlearn.core.progress import report
from clip_unlearn.core.training import Descent
from clip_unlearn.errors import DivergedError, StorageError

Fold: TypeAlias = Literal["gradient", "square", "magnitude"]

FOLDS: Final[Mapping[Fold, Callable[[Tensor], Tensor]]] = {
    "gradient": lambda one: one,
    "square": torch.square,
    "magnitude": torch.abs,
}
"""What is averaged: the gradient of a batch, its square (a diagonal of the Fisher matrix), or its absolute value."""


def importances(task: Task, settings: Descent, *, batches: int, fold: Fold) -> dict[str, Tensor]:
    """Return the mean over a task's first inputs of its folded gradient, for every weight that the task names.

    The weights stay those of the task's model. In float32, on the model's device, of the shape of the weight; 0 where
    the loss does not depend on it. Gradients are those of batches, not of single images: the larger the batch, the more
    of what differs between images cancels, so that squares and magnitudes compare only where batches have equal sizes.

    Raises:
        DivergedError: if the loss or its gradient is no number.
        StorageError: if memory does not hold the pass of a single input.
    """
    leaves = {name: task.model.weights[name].detach().float().clone().requires_grad_() for name in task.weights}
    total = {name: torch.zeros_like(leaf, requires_grad=False) for name, leaf in leaves.items()}
    for number in range(batches):
        report("weigh", number, batches)
        slope, settings = _gradient(task, settings, leaves, number)
        for name, one in slope.items():
            total[name] += FOLDS[fold](one) / batches
    report("weigh", batches, batches)
    return total


def _gradient(task: Task, settings: Descent, leaves: Mapping[str, Tensor], number: int) -> tuple[Slope, Descent]:
    """Return the gradient of a step and the settings that it fitted into memory with: parts get smaller until it does.

    Raises:
        DivergedError: if the loss or its gradient is no number.
        StorageError: if memory does not hold the pass of a single input.
    """
    while True:
        try:
            return gradient(task, settings, leaves, number)[1], settings
        except FloatingPointError as error:
            raise DivergedError(
                f"Weighing the weights failed: {error}. Give another model, or float32 numbers."
            ) from error
        except (torch.OutOfMemoryError, MemoryError) as error:
            settings = _smaller(settings, error)
        # The next try is made out here: an error that is being handled holds on to all that the failed pass made.


def _smaller(settings: Descent, error: Exception) -> Descent:
    part = (settings.part or max(settings.forget_batch, settings.retain_batch)) // 2
    if not part:
        raise StorageError("Memory does not hold the pass of a single image. Use another device.") from error
    return Descent(**{**settings.model_dump(), "part": part})
