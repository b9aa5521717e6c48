"""How much a measurement takes, counted in what costs time: passes of images, sentences, and images of training."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, kw_only=True)
class Size:
    """What a measurement is made on."""

    images: int
    """Images that are measured on."""

    forgotten: int
    """Those that show what is to be forgotten."""

    support: int
    """Images to learn from."""

    classes: int
    """Names that are told apart."""

    background: int
    """Names to retain beside them, with the common nouns."""

    templates: int
    """Sentences of each name."""


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """Counts of the parts that take time; what a run computes once for all is no part of them."""

    images: float = 0.0
    """Images through the image tower."""

    sentences: float = 0.0
    """Sentences through the text tower."""

    trained: float = 0.0
    """Image-sentence pairs through both towers and back."""

    def __add__(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(
            images=self.images + other.images,
            sentences=self.sentences + other.sentences,
            trained=self.trained + other.trained,
        )
