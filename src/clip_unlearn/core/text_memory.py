"""What a text tower made of sentences, kept while its weights live: audits ask the same names again and again."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from clip_unlearn.core.embedding_map import used
from clip_unlearn.core.model import Model, Tokens

Encode: TypeAlias = Callable[[nn.Module, Tokens], Tensor]


def remembering(model: Model) -> Model:
    """Return the model with a memory of sentences, which all models that are made from it share.

    Where no gradient is asked for, a sentence passes a text tower once for all models with the same weights in it; an
    edit of the image side alone, or of the last text layer, costs no further pass. The memory of a tower goes when one
    of its weights does. A model that has a memory keeps it.
    """
    if model.memory is not None:
        return model
    return replace(model, memory=TowerMemory(weights=frozenset(used(model, "text", list(model.weights)))))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TowerMemory:
    """Rows of sentences, by the weights that made them."""

    weights: frozenset[str]
    """Names of the weights that text embeddings depend on."""

    _towers: "list[_Tower]" = field(default_factory=list)

    def rows(self, model: Model, sentences: Sequence[str], encode: Encode, *, below: bool) -> Tensor:
        """Return what `encode` gives for sentences, before the last layer where `below` is set: [n, d] or [n, D]."""
        tower = self._tower(model, encode, below=below)
        fresh = [one for one in dict.fromkeys(sentences) if one not in tower.known]
        if fresh:
            tower.known.update(zip(fresh, model.encode_texts(encode, fresh).detach(), strict=True))
        return torch.stack([tower.known[one] for one in sentences])

    def _tower(self, model: Model, encode: Encode, *, below: bool) -> "_Tower":
        readout = model.readout("text") if below else None
        own = set() if readout is None else {readout.weight, readout.bias}
        weights = [model.weights[name] for name in sorted(self.weights - own)]
        self._towers[:] = [one for one in self._towers if one.lives]
        for one in self._towers:
            if one.made(encode, weights):
                return one
        made = _Tower(encode=encode, weights=[weakref.ref(one) for one in weights], versions=_versions(weights))
        self._towers.append(made)
        return made


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tower:
    encode: Encode
    weights: "list[weakref.ref[Tensor]]"
    versions: list[int]
    """How often each weight was written to: one that is trained in place is another."""

    known: dict[str, Tensor] = field(default_factory=dict)

    @property
    def lives(self) -> bool:
        """Return whether all of its weights are there still."""
        return all(one() is not None for one in self.weights)

    def made(self, encode: Encode, weights: Sequence[Tensor]) -> bool:
        """Return whether it was these weights, as they are now, that gave the rows."""
        same = encode == self.encode and len(weights) == len(self.weights)
        return (
            same
            and all(one() is weight for one, weight in zip(self.weights, weights, strict=True))
            and self.versions == _versions(weights)
        )


def _versions(weights: Sequence[Tensor]) -> list[int]:
    return [weight._version for weight in weights]
