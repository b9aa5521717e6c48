"""The published forgetting loop, epoch by epoch. b pictures, s noise draws, d embedding width."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.maths.scores import cosines
from clip_unlearn.maths.vectors import mean_unit_rows
from clip_unlearn.methods._lipschitz import importance, lipschitz_loss, perturb, select

DEVIATIONS: Final = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
"""Noise of each place of the schedule, a standard deviation in normalised pixels."""

_LIKE_IMAGES: Final = (25, 27, 30, 33, 35, 40, 45)
SELECTED: Final[Mapping[str, Mapping[TowerName, tuple[int, ...]]]] = {
    "transformer": {"image": _LIKE_IMAGES, "text": _LIKE_IMAGES},
    "convolutional": {"image": (5, 7, 10, 13, 15, 20, 25), "text": (5, 7, 12, 18, 25, 30, 35)},
}
"""Tensors of each tower that are trained at each place of the schedule."""


class Adam(Config):
    """A step of Adam, which changes nothing in place."""

    learning_rate: float
    weight_decay: float
    decoupled: bool
    decays: tuple[float, float] = (0.9, 0.98)
    smallest: float = 1e-6

    def moved(
        self, weight: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor, int] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, int]]:
        """Return the weight after a step, with its mean gradient, its mean square and the number of its steps."""
        first, second, count = moments or (torch.zeros_like(weight), torch.zeros_like(weight), 0)
        if self.decoupled:
            weight = weight * (1 - self.learning_rate * self.weight_decay)
        else:
            gradient = gradient + self.weight_decay * weight
        count += 1
        first = self.decays[0] * first + (1 - self.decays[0]) * gradient
        second = self.decays[1] * second + (1 - self.decays[1]) * gradient.square()
        mean, square = first / (1 - self.decays[0] ** count), second / (1 - self.decays[1] ** count)
        return weight - self.learning_rate * mean / (square.sqrt() + self.smallest), (first, second, count)


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Where the loop is. Nothing in it is changed in place, so that undoing an epoch is to keep the old state."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The touched weights alone."""

    moments: Mapping[str, tuple[Tensor, Tensor, int]] = field(default_factory=dict)
    random: Tensor
    """State of the generator of the noise, which runs on when an epoch is undone."""

    best: float = 1.0
    """Lowest accuracy so far."""

    place: int = 0
    """Place in the schedule."""

    epoch: int = 0

    def as_tensors(self) -> dict[str, Tensor]:
        """Return everything as named tensors, to be written."""
        found = {"random": self.random}
        found["numbers"] = torch.tensor([self.best, self.place, self.epoch], dtype=torch.float64)
        for name, (first, second, count) in self.moments.items():
            found |= {f"weight/{name}": self.weights[name], f"first/{name}": first, f"second/{name}": second}
            found[f"count/{name}"] = torch.tensor(count)
        return found

    @staticmethod
    def of_tensors(tensors: Mapping[str, Tensor], device: torch.device) -> "State":
        """Return the state that `as_tensors` gave."""
        best, place, epoch = tensors["numbers"].tolist()
        names = [key.removeprefix("weight/") for key in tensors if key.startswith("weight/")]
        here = {key: value.to(device) for key, value in tensors.items() if "/" in key}
        return State(
            weights={name: here[f"weight/{name}"] for name in names},
            moments={
                name: (here[f"first/{name}"], here[f"second/{name}"], int(here[f"count/{name}"])) for name in names
            },
            random=tensors["random"],
            best=best,
            place=int(place),
            epoch=int(epoch),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Loop:
    """Everything that stays the same from epoch to epoch."""

    model: Model
    train: tuple[Tensor, ...]
    """Pictures of each concept that are trained on, normalised: [b, 3, h, w] each."""

    stop: tuple[Tensor, ...]
    """Pictures of each concept that epochs are judged by."""

    said: tuple[str, ...]
    """The sentence that stands for each concept."""

    candidates: tuple[str, ...]
    """Sentences of the class list: those of the concepts first, then what they are told apart from."""

    templates: int
    """Sentences of each class."""

    towers: Mapping[TowerName, tuple[str, ...]]
    """Weights of each tower that may be selected."""

    selected: Mapping[TowerName, tuple[int, ...]]
    """How many of them are, at each place of the schedule."""

    draws: int
    adam: Adam
    rows: Tensor
    """Classifier rows of the model as it was."""

    def after(self, state: State) -> State:
        """Return the state after one more epoch: one step, kept if it lowers the accuracy, else undone.

        The tensors with the largest mean |gradient| of each tower move; all others keep weight and moments. Numbers
        that are not finite are no gain.
        """
        generator = torch.Generator()
        generator.set_state(state.random)
        gradients = self._gradients(state, generator)
        weights, moments = dict(state.weights), dict(state.moments)
        for tower, names in self.towers.items():
            scores = {name: importance(gradients[name]) for name in names if name in gradients}
            for name in select(scores, self.selected[tower][state.place]):
                old = weights.get(name, self.model.weights[name]).detach()
                weights[name], moments[name] = self.adam.moved(old, gradients[name], moments.get(name))
        tried = replace(state, random=generator.get_state(), epoch=state.epoch + 1)
        hits = self.hits(weights)
        accuracy = 1.0 if hits is None else float(hits.double().mean())
        if accuracy < state.best:
            return replace(tried, weights=weights, moments=moments, best=accuracy)
        return replace(tried, place=state.place + 1)

    @torch.no_grad()
    def hits(self, weights: Mapping[str, Tensor]) -> Tensor | None:
        """Return which pictures held back are recognised with these weights; None where embeddings are not finite."""
        model = self.model.replace(weights)
        changed = not weights.keys().isdisjoint(self.towers["text"])
        rows = class_rows(model, self.candidates, self.templates) if changed else self.rows
        images = torch.cat([model.images(pictures) for pictures in self.stop])
        if not (bool(images.isfinite().all()) and bool(rows.isfinite().all())):
            return None
        labels = torch.cat([torch.full((len(pictures),), place) for place, pictures in enumerate(self.stop)])
        return cosines(images, rows).argmax(1).cpu() == labels

    def _gradients(self, state: State, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the gradient of the loss by every weight that it reaches, summed over the concepts."""
        names = dict.fromkeys(name for tower in self.towers.values() for name in tower)
        leaves = {name: state.weights.get(name, self.model.weights[name]).detach().requires_grad_() for name in names}
        draft, total = self.model.replace(leaves), dict[str, Tensor]()
        for place in range(len(self.train)):
            with torch.enable_grad():
                loss = self._loss(draft, place, generator, DEVIATIONS[state.place])
                found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    total[name] = total[name] + gradient if name in total else gradient
        return total

    def _loss(self, draft: Model, place: int, generator: torch.Generator, deviation: float) -> Tensor:
        pictures, embeddings, distances = self.train[place], [], []
        with torch.no_grad():
            for _ in range(self.draws):
                # One draw at a time: all of them together would not fit into memory at the size of real pictures.
                (noisy,) = perturb(pictures, deviation, 1, generator)
                embeddings.append(draft.images(noisy))
                distances.append((pictures - noisy).flatten(1).norm(dim=1))
        return lipschitz_loss(
            draft.texts([self.said[place]])[0], draft.images(pictures), torch.stack(embeddings), torch.stack(distances)
        )


def class_rows(model: Model, sentences: tuple[str, ...], templates: int) -> Tensor:
    """Return the classifier's row of every class, the mean of the unit embeddings of its sentences: [k, d]."""
    embeddings = model.texts(sentences)
    return mean_unit_rows(embeddings, templates).to(embeddings)
