"""The making of pictures of names, batch by batch. d embedding width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.files import digest
from clip_unlearn.maths.vectors import mean_unit_rows
from clip_unlearn.synthesis.ascend import Ascent, Classes, ascend
from clip_unlearn.synthesis.canvas import noise

PROMPTS: Final = ("a photo of a {}.", "a picture of a {}.", "{}", "a close-up of a {}.")
"""What pictures of a name are drawn towards, in turn."""

MADE: Final = ("pixels", "embeddings", "probabilities", "accepted", "steps")
"""Columns of `Synthetic` that are kept."""

TOGETHER: Final = 8
"""Most pictures of several names that share a batch. Rounding differs with the company, and an ascent lets it grow, so
that pictures of a name are the same whatever else is made only where they have a batch of their own."""

Shot: TypeAlias = tuple[str, int]
"""A picture to make: its name, and its number among the pictures of the name."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Studio:
    """Everything that pictures of names are made with."""

    model: Model
    request: Request
    """Whose templates the classifier rows are made with, and whose synonyms the pictures are drawn towards."""

    listed: tuple[str, ...]
    """Names that a picture has to be recognised among."""

    count: int
    """Pictures of each name."""

    settings: Ascent
    seed: int

    def batches(self, names: Sequence[str]) -> tuple[tuple[Shot, ...], ...]:
        """Return what is made at once: pictures of one name, or of several where that makes no more than 8."""
        size = max(1, TOGETHER // self.count)
        found = []
        for first in range(0, len(names), size):
            shots = [(name, index) for name in names[first : first + size] for index in range(self.count)]
            found += [tuple(shots[at : at + self.settings.batch]) for at in range(0, len(shots), self.settings.batch)]
        return tuple(found)

    def key(self, shots: Sequence[Shot]) -> object:
        """Return all that these pictures depend on."""
        return [
            "album",
            self.model.fingerprint,
            str(self.model.device),
            self.request.templates,
            self.listed,
            PROMPTS,
            self.settings.model_dump(mode="json"),
            self.seed,
            [(self._wordings(name), index) for name, index in shots],
        ]

    def pictures(self, shots: Sequence[Shot]) -> dict[str, Tensor]:
        """Return these pictures by column, in one batch on the model's device."""
        sentences = [self._sentence(name, index) for name, index in shots]
        different = list(dict.fromkeys(sentences))
        with torch.no_grad():
            rows = self.model.texts(different)
        made = ascend(
            self.model,
            rows[[different.index(sentence) for sentence in sentences]],
            classes=Classes(rows=self._rows, wanted=tuple(self.listed.index(name) for name, _ in shots)),
            start=torch.cat([self._noise(name, index) for name, index in shots]),
            draws=torch.rand(self.settings.steps, 2, generator=_generator(self.seed, "shifts")),
            settings=self.settings,
        )
        return {column: getattr(made, column) for column in MADE}

    @cached_property
    def _rows(self) -> Tensor:
        with torch.no_grad():
            return mean_unit_rows(self.model.texts(self.request.sentences(self.listed)), len(self.request.templates))

    def _sentence(self, name: str, index: int) -> str:
        """Return what picture `index` of a name is drawn towards."""
        wordings = self._wordings(name)
        return PROMPTS[index % len(PROMPTS)].replace("{}", wordings[_turn(index, len(PROMPTS), len(wordings))])

    def _noise(self, name: str, index: int) -> Tensor:
        space, starts = self.model.adapter.pixels, self.settings.starts
        grain = starts[_turn(index, len(PROMPTS), len(starts))]
        return noise(1, (space.height, space.width), (grain,), _generator(self.seed, "noise", name, index))

    def _wordings(self, name: str) -> tuple[str, ...]:
        return next((concept.names for concept in self.request.forget if concept.name == name), (name,))


def _turn(index: int, others: int, own: int) -> int:
    """Return whose turn it is among `own` things, so that each meets each of `others`, which simply alternate."""
    return (index + index // math.lcm(others, own)) % own


def _generator(*parts: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(int(digest.of_json(parts)[:15], 16))
