"""How much a measurement takes, counted in what costs time: images, sentences, images of training, weights."""

from dataclasses import dataclass, fields
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

    image_towers: int = 2
    """Image towers of original and edited model that differ below the last layer: 1 or 2."""

    text_towers: int = 2
    """The same of text towers."""

    @property
    def names(self) -> int:
        """Return how many sentences there are of the names that are told apart, for all text towers that differ."""
        return self.text_towers * self.classes * self.templates


@final
@dataclass(frozen=True, kw_only=True)
class Work:
    """Counts of the parts that take time."""

    images: float = 0.0
    """Images through the image tower."""

    sentences: float = 0.0
    """Sentences through the text tower."""

    trained: float = 0.0
    """Image-sentence pairs through both towers and back."""

    support: float = 0.0
    """Images to learn from through the image tower, kept for audits that come later."""

    names: float = 0.0
    """Sentences of plain names through the text tower, kept likewise."""

    varied: float = 0.0
    """Sentences of plain names in many templates, kept likewise."""

    rewritten: float = 0.0
    """Single weights that other numbers are put in the place of."""

    multiplied: float = 0.0
    """Multiply-adds of matrix products beside the towers."""

    def __add__(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(**{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)})
