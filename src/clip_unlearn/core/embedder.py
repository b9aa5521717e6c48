"""Embeds the inputs of a step in parts that fit into memory, over all processes. n inputs, d embedding width."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from accelerate import PartialState
from accelerate.utils import gather, reduce
from torch import Tensor

from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.maths.vectors import unit

Encode: TypeAlias = Callable[[Sequence[int]], Tensor]
"""From places among the inputs to their embeddings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Deferred:
    """Embeddings without a graph, and how those of this process are computed again."""

    encode: Encode
    parts: tuple[tuple[int, ...], ...]
    leaf: Tensor


@final
class Embedder:
    """What a loss asks to be embedded by the model in training, and the way back for its gradient.

    In one process and one part this is an ordinary graph. Otherwise every part is embedded without a graph, the loss is
    taken on the embeddings of all parts and processes at once, and each part is embedded again to take on the gradient
    of its embeddings. So the batch that a contrastive loss depends on is the same whatever the memory and the number of
    processes.

    Source: Gao et al. 2021, arXiv 2101.06983 (embedding caching).
    """

    def __init__(
        self,
        draft: Model,
        trains: frozenset[TowerName],
        *,
        part: int | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        """Embed with `draft`, whose towers `trains` get gradients, `part` inputs at a time, in autocast `precision`."""
        self.draft = draft
        self.trains = trains
        self._part = part
        self._precision = precision
        self._deferred: list[_Deferred] = []

    def images(self, pixels: Tensor) -> Tensor:
        """Return unit embeddings of normalised pixels in float32: [n, 3, height, width] -> [n, d]."""
        return self._embedded(len(pixels), lambda places: self.draft.images(pixels[list(places)]))

    def texts(self, sentences: Sequence[str]) -> Tensor:
        """Return unit embeddings of sentences in float32: [n, d]."""
        return self._embedded(len(sentences), lambda places: self.draft.texts([sentences[place] for place in places]))

    def gradients(self, loss: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the gradient of a loss of embeddings by every leaf that it depends on; uses the graph up."""
        weights, cached = list(leaves.values()), [one.leaf for one in self._deferred]
        found = torch.autograd.grad(loss, [*weights, *cached], allow_unused=True)
        direct = [None if one is None else one.clone() for one in found[: len(weights)]]
        carried: list[Tensor | None] = [None] * len(weights)
        for one, gradient in zip(self._deferred, found[len(weights) :], strict=True):
            if gradient is not None:
                self._carry_back(one, gradient, weights, carried)
        total = [_plus(one, other) for one, other in zip(direct, _summed(carried), strict=True)]
        return {name: one for name, one in zip(leaves, total, strict=True) if one is not None}

    def _embedded(self, count: int, encode: Encode) -> Tensor:
        state = PartialState()
        if state.num_processes == 1 and (self._part is None or count <= self._part):
            return self._run(encode, range(count))
        share = -(-count // state.num_processes)
        first = state.process_index * share
        own = [place if place < count else 0 for place in range(first, first + share)]
        size = self._part or share
        parts = tuple(tuple(own[place : place + size]) for place in range(0, share, size))
        with torch.no_grad():
            rows = torch.cat([self._run(encode, part) for part in parts])
        leaf: Tensor = gather(rows)[:count].detach().requires_grad_()
        self._deferred.append(_Deferred(encode=encode, parts=parts, leaf=leaf))
        return leaf

    def _carry_back(
        self, one: _Deferred, gradient: Tensor, weights: Sequence[Tensor], total: list[Tensor | None]
    ) -> None:
        """Add to `total` the gradient of this process's part of the embeddings; what pads it carries nothing."""
        state, count = PartialState(), len(one.leaf)
        place = state.process_index * sum(len(part) for part in one.parts)
        for part in one.parts:
            rows = self._run(one.encode, part)
            own = torch.zeros_like(rows)
            real = max(0, min(len(part), count - place))
            own[:real] = gradient[place : place + real]
            place += len(part)
            pieces = torch.autograd.grad((rows * own).sum(), weights, allow_unused=True)
            # Copied, because two weights may be given the same tensor.
            total[:] = [
                _plus(sum_, None if piece is None else piece.clone()) for sum_, piece in zip(total, pieces, strict=True)
            ]

    def _run(self, encode: Encode, places: Sequence[int]) -> Tensor:
        with torch.autocast(self.draft.device.type, self._precision, enabled=self._precision is not None):
            rows = encode(places)
        return unit(rows.float())


def _plus(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Return a sum in which None is the gradient of what a loss does not depend on."""
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _summed(tensors: Sequence[Tensor | None]) -> Iterator[Tensor | None]:
    """Yield every tensor summed over all processes, in one exchange; None is None in all of them."""
    real = [one for one in tensors if one is not None]
    if PartialState().num_processes == 1 or not real:
        yield from tensors
        return
    flat = reduce(torch.cat([one.flatten() for one in real]), "sum")
    pieces = iter(torch.split(flat, [one.numel() for one in real]))
    for one in tensors:
        yield None if one is None else next(pieces).view_as(one)
