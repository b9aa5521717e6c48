"""From pairs of images and sentences to the inputs of numbered steps; the same number gives the same inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.data.pairs import Pairs
from clip_unlearn.maths.vectors import unit

_FORGET, _RETAIN, _STEP = 1, 2, 3
_PRIME: Final = 1_000_003


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TextTable:
    """Unit embeddings of sentences by a model that does not change, each computed once."""

    model: Model
    _known: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Return the embeddings of the sentences: [n, d]."""
        missing = [one for one in dict.fromkeys(sentences) if one not in self._known]
        if missing:
            self._known.update(zip(missing, unit(self.model.texts(missing).float()).cpu(), strict=True))
        return torch.stack([self._known[one] for one in sentences])


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PairRows:
    """Some pairs, as the rows of one side of a step."""

    pairs: Pairs
    rows: tuple[int, ...]
    sentences: tuple[str, ...]
    texts: TextTable

    @cached_property
    def pixels(self) -> Tensor:
        """Return the images, normalised: [n, 3, height, width]."""
        return self.pairs.pixels(self.rows)

    @property
    def labels(self) -> Tensor:
        """Return the place of each image's class in the class list, -1 where it has none: [n]."""
        return self.pairs.labels[list(self.rows)]

    @property
    def before_images(self) -> Tensor:
        """Return the images' unit embeddings by the model as it was: [n, d]."""
        return self.pairs.before[list(self.rows)]

    @property
    def before_texts(self) -> Tensor:
        """Return the sentences' unit embeddings by the model as it was: [n, d]."""
        return self.texts(self.sentences)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PairInputs:
    """The inputs of one step."""

    forget: PairRows
    retain: PairRows
    names: tuple[str, ...]
    forgotten: int
    seed: int
    texts: TextTable

    @property
    def before_names(self) -> Tensor:
        """Return the class list's unit embeddings by the model as it was: [k, d]."""
        return self.texts(self.names)

    @cached_property
    def generator(self) -> torch.Generator:
        """Return where random choices of this step come from."""
        return torch.Generator().manual_seed(self.seed)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PairFeed:
    """Batches of pairs, pass after pass in a new order each; never more of a side than there are.

    A pass goes round all classes before it comes back to one, each time in another order, so that few pairs of a batch
    are of one class where there are classes enough: contrastive losses take every other pair of the batch for a wrong
    one. A batch that ends one pass and begins the next may hold a pair twice.
    """

    pairs: Pairs
    forget_batch: int
    retain_batch: int
    texts: TextTable = field(init=False)
    _orders: dict[int, dict[int, list[int]]] = field(init=False, default_factory=dict)
    """By side, the order of the passes that the newest batch is of."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", TextTable(model=self.pairs.model))

    def __call__(self, number: int) -> PairInputs:
        """Return the inputs of a step."""
        seed = self.pairs.request.seed * _PRIME + number
        generator = _generator(seed, _STEP)
        template = self._drawn(self.pairs.request.templates, generator)
        return PairInputs(
            forget=self._side(self.pairs.forget, self.forget_batch, number, _FORGET, template, generator),
            retain=self._side(self.pairs.retain, self.retain_batch, number, _RETAIN, template, generator),
            names=tuple(template.replace("{}", names[0]) for names in self.pairs.names),
            forgotten=self.pairs.forgotten,
            seed=int(torch.randint(2**31, (), generator=generator)),
            texts=self.texts,
        )

    def _side(
        self, rows: Sequence[int], size: int, number: int, side: int, template: str, generator: torch.Generator
    ) -> PairRows:
        chosen = self._batch(rows, size, number, side)
        sentences = tuple(self._sentence(row, template, generator) for row in chosen)
        return PairRows(pairs=self.pairs, rows=chosen, sentences=sentences, texts=self.texts)

    def _sentence(self, row: int, template: str, generator: torch.Generator) -> str:
        if self.pairs.captioned:
            return self._drawn(self.pairs.images.captions[row], generator)
        return template.replace("{}", self._drawn(self.pairs.names[int(self.pairs.labels[row])], generator))

    def _batch(self, rows: Sequence[int], size: int, number: int, side: int) -> tuple[int, ...]:
        size = min(size, len(rows))
        places = range(number * size, (number + 1) * size)
        passes = {place // len(rows) for place in places}
        known, seed = self._orders.get(side, {}), self.pairs.request.seed * _PRIME
        orders = {one: known.get(one) or self._order(rows, _generator(seed + one, side)) for one in passes}
        self._orders[side] = orders
        return tuple(orders[place // len(rows)][place % len(rows)] for place in places)

    def _order(self, rows: Sequence[int], generator: torch.Generator) -> list[int]:
        shuffled = [rows[place] for place in torch.randperm(len(rows), generator=generator).tolist()]
        turn: dict[int, int] = {}
        turns = []
        for label in self.pairs.labels[shuffled].tolist():
            turns.append(turn.get(label, 0))
            turn[label] = turns[-1] + 1
        if len(turn) == 1:
            return shuffled
        return [row for _, row in sorted(zip(turns, shuffled, strict=True), key=lambda each: each[0])]

    @staticmethod
    def _drawn(options: Sequence[str], generator: torch.Generator) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))] if len(options) > 1 else options[0]


def _generator(seed: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed((seed * 4 + stream) % 2**63)
