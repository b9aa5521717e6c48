"""Pictures of patterns that no model here has learned."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

SIZE: Final = 48
PATTERNS: Final[Mapping[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]]] = {
    "stripes": lambda x, y, step: x // step % 2,
    "checks": lambda x, y, step: (x // step + y // step) % 2,
    "rings": lambda x, y, step: np.hypot(x - SIZE / 2, y - SIZE / 2) // step % 2,
    "slopes": lambda x, y, step: (x + y) // step % 2,
    "dots": lambda x, y, step: (x % (2 * step) < step / 2) & (y % (2 * step) < step / 2),
    "waves": lambda x, y, step: (y + step * np.sin(x / step)) // step % 2,
}


def draw(folder: Path, count: int, *, names: tuple[str, ...] = tuple(PATTERNS)) -> Path:
    """Write so many pictures of each pattern, in random colours and widths, and return the folder."""
    y, x = np.mgrid[:SIZE, :SIZE]
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            shown = PATTERNS[name](x, y, int(random.integers(3, 8)))[..., None]
            first, second = random.integers(0, 256, (2, 3))
            pixels = np.where(shown > 0, first, second).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
