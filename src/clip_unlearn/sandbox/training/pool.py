"""Pre-rendered training pictures, kept in memory and cached on disk.

Dimensions: n pictures, p side of a picture.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from clip_unlearn.sandbox.canvas import SIDE
from clip_unlearn.sandbox.classes import CLASS_NAMES, DOMAINS
from clip_unlearn.sandbox.world import Picture, digest, render


@final
@dataclass(frozen=True, kw_only=True)
class Pool:
    """A run of pictures of one split."""

    pixels: NDArray[np.uint8]
    """RGB [n, 3, p, p], channels first."""

    pictures: tuple[Picture, ...]
    """What is in them; their own pixels are left empty."""

    labels: NDArray[np.int64]
    """Class numbers [n] in the order of CLASS_NAMES."""

    domains: NDArray[np.int64]
    """Domain numbers [n] in the order of DOMAINS."""

    def without(self, class_name: str) -> "Pool":
        """Return the pictures that do not show the class; all of them if the name is empty."""
        if not class_name:
            return self
        return self.where(self.labels != CLASS_NAMES.index(class_name))

    def where(self, mask: NDArray[np.bool_]) -> "Pool":
        """Return the pictures where the mask [n] is true."""
        kept = tuple(picture for picture, keep in zip(self.pictures, mask.tolist(), strict=True) if keep)
        return Pool(pixels=self.pixels[mask], pictures=kept, labels=self.labels[mask], domains=self.domains[mask])


def build_pool(split: str, per_cell: int, cache: Path) -> Pool:
    """Return `per_cell` pictures of every class and domain of a split, rendered once per version of the world."""
    cells = [(name, domain, index) for name in CLASS_NAMES for domain in DOMAINS for index in range(per_cell)]
    path = cache / f"{digest()[:16]}-{split}-{per_cell}.npz"
    if not path.exists():
        _render_all(cells, split, path)
    stored = np.load(path)
    facts = stored["facts"]
    empty = np.zeros((0, 0, 3), dtype=np.uint8)
    pictures = tuple(
        Picture(pixels=empty, class_name=name, domain=domain, split=split, index=index,
                color=str(color), place=str(place), size=str(size))
        for (name, domain, index), (color, place, size) in zip(cells, facts, strict=True)
    )  # fmt: skip
    labels = np.array([CLASS_NAMES.index(name) for name, _, _ in cells], dtype=np.int64)
    domains = np.array([DOMAINS.index(domain) for _, domain, _ in cells], dtype=np.int64)
    return Pool(pixels=stored["pixels"], pictures=pictures, labels=labels, domains=domains)


def _render_all(cells: list[tuple[str, str, int]], split: str, path: Path) -> None:
    pixels = np.empty((len(cells), 3, SIDE, SIDE), dtype=np.uint8)
    facts: list[tuple[str, str, str]] = []
    for number, (name, domain, index) in enumerate(cells):
        picture = render(name, domain, split, index)
        pixels[number] = picture.pixels.transpose(2, 0, 1)
        facts.append((picture.color, picture.place, picture.size))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as part:
        np.savez(part, pixels=pixels, facts=np.array(facts))
    os.replace(part.name, path)
