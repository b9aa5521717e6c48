"""Measures a trained dual encoder on fresh pictures.

Dimensions: n pictures, k classes, d embedding width.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from clip_unlearn.sandbox.classes import CLASS_NAMES, CLASSES, DOMAINS
from clip_unlearn.sandbox.sentences import ZERO_SHOT_TEMPLATE, captions
from clip_unlearn.sandbox.training.batches import tokenize
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.towers import image_embeddings, normalized_pixels, text_embeddings

_NORMAL_QUANTILE: Final = 1.959964
_GALLERY: Final = 100


@final
@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with its count and Wilson 95 % interval."""

    value: float
    low: float
    high: float
    count: int


def wilson(successes: int, count: int) -> Share:
    """Return the share of successes with its Wilson 95 % interval.

    Raises:
        ValueError: if `count` is not positive.
    """
    if count <= 0:
        raise ValueError(f"A share needs at least one trial; got {count}. Check that the pool is not empty.")
    share, square = successes / count, _NORMAL_QUANTILE**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _NORMAL_QUANTILE * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return Share(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), count=count)


@torch.no_grad()
def embed_pool(model: Any, pool: Pool) -> torch.Tensor:  # noqa: ANN401
    """Return unit embeddings [n, d] of the pool's pictures."""
    chunks = [torch.from_numpy(pool.pixels[start : start + 256]) for start in range(0, len(pool.labels), 256)]
    return torch.cat([image_embeddings(model, normalized_pixels(chunk)) for chunk in chunks])


@torch.no_grad()
def embed_names(model: Any, tokenizer: Any, names: Sequence[str]) -> torch.Tensor:  # noqa: ANN401
    """Return unit embeddings [k, d] of the zero-shot prompts of the names."""
    return text_embeddings(model, tokenize(tokenizer, [ZERO_SHOT_TEMPLATE.format(name) for name in names]))


def evaluate(model: Any, tokenizer: Any, pool: Pool, forgotten: str = "") -> dict[str, Any]:  # noqa: ANN401
    """Return accuracies per domain, per class and by synonym, and retrieval, as plain data.

    With a `forgotten` class, `retained` counts the other classes' pictures only; the choice is always among all
    classes.
    """
    images = embed_pool(model, pool)
    right = _right(images, embed_names(model, tokenizer, CLASS_NAMES), pool)
    figures: dict[str, Any] = {
        "by_domain": {name: _share(right[pool.domains == number]) for number, name in enumerate(DOMAINS)},
        "by_class": {name: _share(right[pool.labels == number]) for number, name in enumerate(CLASS_NAMES)},
        "by_synonym": _by_synonym(model, tokenizer, images, pool),
        "caption_to_image_recall_at_1": _retrieval(model, tokenizer, images, pool),
    }
    if forgotten:
        gone = pool.labels == CLASS_NAMES.index(forgotten)
        figures["forgotten"] = _share(right[gone])
        figures["retained"] = _share(right[~gone])
        figures["retained_by_domain"] = {
            name: _share(right[~gone & (pool.domains == number)]) for number, name in enumerate(DOMAINS)
        }
    return figures


def _right(images: torch.Tensor, names: torch.Tensor, pool: Pool) -> NDArray[np.bool_]:
    chosen = (images @ names.T).argmax(dim=1).numpy()
    return np.asarray(chosen == pool.labels)


def _share(right: NDArray[np.bool_]) -> dict[str, float]:
    return {name: round(number, 4) for name, number in asdict(wilson(int(right.sum()), len(right))).items()}


def _by_synonym(model: Any, tokenizer: Any, images: torch.Tensor, pool: Pool) -> dict[str, Any]:
    """Return the accuracy on a class's pictures when a synonym stands for its name and the others keep theirs."""
    names = embed_names(model, tokenizer, CLASS_NAMES)
    figures: dict[str, Any] = {}
    everything: list[NDArray[np.bool_]] = []
    for number, item in enumerate(CLASSES):
        shown = images[torch.from_numpy(pool.labels == number)]
        for synonym in item.synonyms:
            asked = names.clone()
            asked[number] = embed_names(model, tokenizer, [synonym])[0]
            right = (shown @ asked.T).argmax(dim=1).numpy() == number
            figures[synonym] = _share(right)
            everything.append(right)
    return {"all": _share(np.concatenate(everything)), **figures}


@torch.no_grad()
def _retrieval(model: Any, tokenizer: Any, images: torch.Tensor, pool: Pool) -> dict[str, Any]:
    """Return how often a picture's first caption finds that very picture among 100 random ones of its domain."""
    random = np.random.default_rng(5)
    result: dict[str, Any] = {"gallery": _GALLERY, "chance": 1 / _GALLERY}
    for number, domain in enumerate(DOMAINS):
        hits: list[bool] = []
        for _ in range(5):
            rows = random.choice(np.flatnonzero(pool.domains == number), _GALLERY, replace=False)
            said = [captions(pool.pictures[row], 1)[0] for row in rows]
            texts = text_embeddings(model, tokenize(tokenizer, said))
            best = (texts @ images[torch.from_numpy(rows)].T).argmax(dim=1).numpy()
            hits.extend((best == np.arange(_GALLERY)).tolist())
        result[domain] = _share(np.array(hits))
    return result
