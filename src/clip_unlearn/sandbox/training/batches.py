"""Shuffled, lightly augmented training batches and the truth of captions about them.

Dimensions: n pictures, m captions, p side of a picture.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from clip_unlearn.sandbox.sentences import Caption, visible
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.world import Picture

_SHIFT: Final = 3


def batches(pool: Pool, size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of one shuffled pass; the last, incomplete batch is dropped."""
    order = random.permutation(len(pool.labels))
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def augmented(pixels: NDArray[np.uint8], random: np.random.Generator) -> torch.Tensor:
    """Return the pictures [n, 3, p, p] mirrored half of the time, moved by up to 3 pixels, dimmed or brightened."""
    side = pixels.shape[-1]
    padded = np.pad(pixels, ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)), mode="edge")
    top, left = (int(offset) for offset in random.integers(0, 2 * _SHIFT + 1, 2))
    moved = padded[:, :, top : top + side, left : left + side]
    mirrored = np.where((random.random(len(pixels)) < 0.5)[:, None, None, None], moved[..., ::-1], moved)
    gain = random.uniform(0.85, 1.15, (len(pixels), 1, 1, 1)).astype(np.float32)
    return torch.from_numpy((mirrored.astype(np.float32) * gain).clip(0, 255))


def tokenize(tokenizer: Any, sentences: Sequence[str]) -> torch.Tensor:
    """Return token ids [m, longest], padded and cut to the model's length."""
    encoded = tokenizer(list(sentences), padding=True, truncation=True, return_tensors="pt")
    tokens: torch.Tensor = encoded.input_ids
    return tokens


def truth(captions: Sequence[Caption], pictures: Sequence[Picture]) -> torch.Tensor:
    """Return the matrix [m, n] of which caption holds for which picture."""
    words: dict[str, int] = {"": -1, "-": -2}
    said = _numbered([(c.class_name, c.group, c.domain, c.color, c.place, c.size) for c in captions], words)
    seen = _numbered([visible(picture) for picture in pictures], words)
    agree = (said[:, None, :] == -1) | (said[:, None, :] == seen[None, :, :])
    return torch.from_numpy(agree.all(axis=2))


def _numbered(rows: Sequence[tuple[str, ...]], words: dict[str, int]) -> NDArray[np.int64]:
    return np.array([[words.setdefault(word, len(words)) for word in row] for row in rows], dtype=np.int64)
