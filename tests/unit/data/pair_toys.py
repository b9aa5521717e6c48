"""Sets of small noise pictures with classes or captions, and the pairs that a request makes of them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Evidence, Request
from clip_unlearn.data import pairs as module
from clip_unlearn.data.images import ImageSet, from_encoded
from clip_unlearn.data.pairs import Pairs, pairs_of
from clip_unlearn.errors import DataError


def png(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def labels(**counts: int) -> list[str]:
    """Return so many labels of each class, one class after the other."""
    return [name for name, count in counts.items() for _ in range(count)]


@dataclass
class Shelf:
    """Sets of images that `open_data` finds by their names."""

    sets: dict[str, ImageSet] = field(default_factory=dict)

    def put(
        self,
        *,
        labels: Sequence[str] = (),
        captions: Sequence[tuple[str, ...]] = (),
        seeds: Sequence[int] | None = None,
        broken: Sequence[int] = (),
        where: str = "shelf",
    ) -> ImageSet:
        """Add a set with a picture for every label or caption; the same seed draws the same picture."""
        count = len(labels) or len(captions)
        drawn = range(count) if seeds is None else seeds
        classes = tuple(dict.fromkeys(labels))

        def read(index: int) -> bytes:
            if index in broken:
                raise DataError(f"{index}: broken.")
            return png(drawn[index])

        self.sets[where] = from_encoded(
            where=where,
            keys=[str(index) for index in range(count)],
            read=read,
            classes=classes,
            labels=[classes.index(label) for label in labels],
            captions=captions,
        )
        return self.sets[where]

    def request(self, *forget: str, where: str = "shelf", **fields: object) -> Request:
        evidence = Evidence(where=where, digest=self.sets[where].digest)
        return Request(**{"forget": forget, "evidence": evidence, **fields})

    def pairs(self, model: Model, *forget: str, sentences: str = "auto", **fields: object) -> Pairs:
        other = fields.pop("other_senses", ())
        return pairs_of(model, self.request(*forget, **fields), sentences=sentences, other_senses=other)


def stocked(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """Return an empty shelf that stands in for all sources of data."""
    found = Shelf()
    monkeypatch.setattr(module, "open_data", found.sets.__getitem__)
    return found
