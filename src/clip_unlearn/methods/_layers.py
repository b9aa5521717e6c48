"""Which weight tensors stand between forgetting and retaining, and how far one is moved until something turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from clip_unlearn.core import journal
from clip_unlearn.core.descent import Task, trained_weights
from clip_unlearn.core.model import Model
from clip_unlearn.core.training import Descent
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._importance import importances

ADDED = ("bias", "embedding", "position")
"""In the last part of a weight's name: it is added to what a layer holds, and transforms nothing."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One weight tensor, and how two gradients of the model as it was bear on it."""

    name: str
    gradient: Tensor
    """Gradient of the loss that forgets, float32 on the CPU."""

    importance: float
    """Norm of that gradient over the norm of the weight; above 0."""

    alignment: float
    """Cosine of that gradient and the one of the loss that retains, in [-1, 1]; 0 where the latter has none."""


def mean_gradient(task: Task, settings: Descent, *, batches: int) -> dict[str, Tensor]:
    """Return the mean gradient of a task's loss over its first inputs, for every weight that the task names.

    By the task's model as it is; float32 on the CPU. An interrupted run takes it from the journal.

    Raises:
        DivergedError: if the loss or its gradient is no number.
        StorageError: if memory does not hold the pass of a single input, or the disk refuses.
    """
    model = task.model
    key = ["gradient", task.key, model.fingerprint, str(model.device), settings.model_dump(mode="json"), batches]
    return journal.step(key, lambda: importances(task, settings, batches=batches, fold="gradient"))


def layer_weights(model: Model, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some weights that transform what a layer holds, in the order given.

    Left out are tables of embeddings, by type, and what is only added: biases, positions and class tokens, by the last
    part of their name. Convolutions, and the scales of normalisations, are among the layers.

    Source: Cai et al. 2024, arXiv 2407.11867, which tells them by name; types where there are any are ours.
    """
    parts = dict(model.module.named_modules())

    def transforms(name: str) -> bool:
        owner, _, last = name.rpartition(".")
        return not isinstance(parts[owner], nn.Embedding) and not any(word in last for word in ADDED)

    return tuple(name for name in names if transforms(name))


def layers_of(
    model: Model, names: Sequence[str], forget: Mapping[str, Tensor], retain: Mapping[str, Tensor]
) -> tuple[Layer, ...]:
    """Return the layers among some weights, with the gradients `forget` and `retain` of two losses.

    Without those whose weight or whose gradient to forget is 0: the one has no size, the other no direction.
    """
    found = []
    for name in layer_weights(model, names):
        gradient, other = forget[name].double().flatten(), retain[name].double().flatten()
        size, length = float(model.weights[name].detach().double().norm()), float(gradient.norm())
        if size and length:
            cosine = float(unit(gradient.unsqueeze(0)) @ unit(other.unsqueeze(0)).T)
            found.append(Layer(name=name, gradient=forget[name], importance=length / size, alignment=cosine))
    return tuple(found)


def tower_layers(
    model: Model, forget: Mapping[str, Tensor], retain: Mapping[str, Tensor]
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Return the layers of the image tower and those of the text tower, of the weights that have gradients.

    A layer of both towers is counted as one of the image tower.
    """
    known = set(forget)
    image = [name for name in trained_weights(model, "image") if name in known]
    text = [name for name in trained_weights(model, "text") if name in known - set(image)]
    return layers_of(model, image, forget, retain), layers_of(model, text, forget, retain)


def front(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers that no other one beats, by large importance and by an alignment near 0, in the order given.

    One layer beats another when it is at least as good in both and better in one of them.
    """

    def beaten(one: Layer) -> bool:
        return any(
            other.importance >= one.importance
            and abs(other.alignment) <= abs(one.alignment)
            and (other.importance, -abs(other.alignment)) != (one.importance, -abs(one.alignment))
            for other in layers
        )

    return tuple(one for one in layers if not beaten(one))


def turning_point(
    turned: Callable[[float], bool], first: float, *, doublings: int, bisections: int
) -> tuple[float, float | None]:
    """Return the largest value tried below the turn and the smallest tried beyond it; None if none was beyond.

    `first` is doubled until `turned` holds, at most `doublings` times; the interval from the value before, or from 0,
    is then halved `bisections` times, keeping the half whose lower end has not turned and whose upper end has.
    """
    tried = (first * 2**power for power in range(doublings + 1))
    high = next((value for value in tried if turned(value)), None)
    if high is None:
        return first * 2**doublings, None
    low = high / 2 if high > first else 0.0
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (low, middle) if turned(middle) else (middle, high)
    return low, high
