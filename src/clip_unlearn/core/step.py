"""What a loss sees of one step: embeddings of images and sentences, by the model in training and by the one before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias, final

import torch
from torch import Tensor

from clip_unlearn.core.embedder import Embedder


class Rows(Protocol):
    """The inputs of one side of a step; each is made when it is asked for. n images."""

    @property
    def pixels(self) -> Tensor:
        """Return the images, normalised: [n, 3, height, width]."""

    @property
    def sentences(self) -> Sequence[str]:
        """Return one sentence for every image."""

    @property
    def labels(self) -> Tensor:
        """Return the place of each image's class in the class list, -1 where it has none: [n]."""

    @property
    def before_images(self) -> Tensor:
        """Return the images' unit embeddings by the model as it was: [n, d]."""

    @property
    def before_texts(self) -> Tensor:
        """Return the sentences' unit embeddings by the model as it was: [n, d]."""


class Inputs(Protocol):
    """The inputs of one step. k classes."""

    @property
    def forget(self) -> Rows:
        """Return images of what is to be forgotten."""

    @property
    def retain(self) -> Rows:
        """Return images of what is to be retained."""

    @property
    def names(self) -> Sequence[str]:
        """Return one sentence for every class of the list, those to forget first."""

    @property
    def before_names(self) -> Tensor:
        """Return their unit embeddings by the model as it was: [k, d]."""

    @property
    def forgotten(self) -> int:
        """Return how many classes of the list are to be forgotten."""

    @property
    def generator(self) -> torch.Generator:
        """Return where random choices of this step come from; the same step gives the same ones."""


Feed: TypeAlias = Callable[[int], Inputs]
"""From the number of a step to its inputs; the same number gives the same inputs."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One side of a step: unit embeddings [n, d] of matched images and sentences.

    A tower that is not trained is not run: its embeddings are those of the model before.
    """

    rows: Rows
    embedder: Embedder

    @cached_property
    def images(self) -> Tensor:
        """Return the images' embeddings by the model in training: [n, d]."""
        if "image" not in self.embedder.trains:
            return self.before_images
        return self.embedder.images(self.pixels)

    @cached_property
    def texts(self) -> Tensor:
        """Return the sentences' embeddings by the model in training: [n, d]."""
        return self.embedder.texts(self.rows.sentences) if "text" in self.embedder.trains else self.before_texts

    @property
    def before_images(self) -> Tensor:
        """Return the images' embeddings by the model as it was: [n, d]."""
        return self.rows.before_images.to(self.embedder.draft.device)

    @property
    def before_texts(self) -> Tensor:
        """Return the sentences' embeddings by the model as it was: [n, d]."""
        return self.rows.before_texts.to(self.embedder.draft.device)

    @cached_property
    def labels(self) -> Tensor:
        """Return the place of each image's class in the class list: [n]."""
        return self.rows.labels.to(self.embedder.draft.device)

    @cached_property
    def pixels(self) -> Tensor:
        """Return the normalised images: [n, 3, height, width]."""
        return self.rows.pixels.to(self.embedder.draft.device)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One step as a loss sees it; what the loss does not ask for is not computed."""

    inputs: Inputs
    embedder: Embedder

    @cached_property
    def forget(self) -> Side:
        """Return the side of what is to be forgotten."""
        return Side(rows=self.inputs.forget, embedder=self.embedder)

    @cached_property
    def retain(self) -> Side:
        """Return the side of what is to be retained."""
        return Side(rows=self.inputs.retain, embedder=self.embedder)

    @cached_property
    def names(self) -> Tensor:
        """Return the class list's embeddings by the model in training, those to forget first: [k, d]."""
        return self.embedder.texts(self.inputs.names) if "text" in self.embedder.trains else self.before_names

    @property
    def before_names(self) -> Tensor:
        """Return the class list's embeddings by the model as it was: [k, d]."""
        return self.inputs.before_names.to(self.embedder.draft.device)

    @property
    def forgotten(self) -> int:
        """Return how many classes at the head of the list are to be forgotten."""
        return self.inputs.forgotten

    @cached_property
    def scale(self) -> float:
        """Return the logit scale of the model, which no method here trains."""
        return self.embedder.draft.logit_scale

    @cached_property
    def generator(self) -> torch.Generator:
        """Return where random choices of this step come from."""
        return self.inputs.generator
