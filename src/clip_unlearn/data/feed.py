"""From pairs of images and sentences to the inputs of numbered steps; the same number gives the same inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.step import Rows
from clip_unlearn.data.pairs import Pairs
from clip_unlearn.maths.vectors import unit

RUN: Final = 64
"""Sentences of a list that are embedded together."""

_FORGET, _RETAIN, _STEP = 1, 2, 3
_PRIME: Final = 1_000_003


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class TextTable:
    """Unit embeddings of sentences by a model that does not change.

    How a sentence is rounded depends on what it is embedded together with, so that never depends on what came before:
    a run that goes on from the middle of another has to see the same numbers.
    """

    model: Model
    _known: dict[tuple[str, ...], Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str], among: tuple[str, ...] = ()) -> Tensor:
        """Return the embeddings of the sentences: [n, d].

        Those that are `among` the sentences of a list are computed in runs of that list, each once; the others now,
        together.
        """
        places = {one: place for place, one in enumerate(among)}
        others = tuple(dict.fromkeys(one for one in sentences if one not in places))
        alone = dict(zip(others, self._embedded(others), strict=True)) if others else {}
        return torch.stack([alone[one] if one in alone else self._listed(among, places[one]) for one in sentences])

    def _listed(self, among: tuple[str, ...], place: int) -> Tensor:
        run = among[place - place % RUN :][:RUN]
        if run not in self._known:
            self._known[run] = self._embedded(run)
        return self._known[run][place % RUN]

    def _embedded(self, sentences: Sequence[str]) -> Tensor:
        return unit(self.model.texts(list(sentences)).float()).cpu()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PairRows:
    """Some pairs, as the rows of one side of a step."""

    pairs: Pairs
    rows: tuple[int, ...]
    sentences: tuple[str, ...]
    names: tuple[str, ...]
    """One sentence for every class of the list."""

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

    @cached_property
    def before_texts(self) -> Tensor:
        """Return the sentences' unit embeddings by the model as it was: [n, d]."""
        return self.texts(self.sentences, self.names)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ListedInputs:
    """The inputs of one step, of classes in a list."""

    forget: Rows
    retain: Rows
    names: tuple[str, ...]
    forgotten: int
    seed: int
    texts: TextTable

    @property
    def before_names(self) -> Tensor:
        """Return the class list's unit embeddings by the model as it was: [k, d]."""
        return self.texts(self.names, self.names)

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

    def __call__(self, number: int) -> ListedInputs:
        """Return the inputs of a step."""
        seed = self.pairs.request.seed * _PRIME + number
        generator = _generator(seed, _STEP)
        template = self._drawn(self.pairs.request.templates, generator)
        names = tuple(template.replace("{}", names[0]) for names in self.pairs.names)
        sides = []
        for side, rows, size in (
            (_FORGET, self.pairs.forget, self.forget_batch),
            (_RETAIN, self.pairs.retain, self.retain_batch),
        ):
            chosen = self._batch(rows, size, number, side)
            sentences = tuple(self._sentence(row, template, generator) for row in chosen)
            sides.append(PairRows(pairs=self.pairs, rows=chosen, sentences=sentences, names=names, texts=self.texts))
        return ListedInputs(
            forget=sides[0],
            retain=sides[1],
            names=names,
            forgotten=self.pairs.forgotten,
            seed=int(torch.randint(2**31, (), generator=generator)),
            texts=self.texts,
        )

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
