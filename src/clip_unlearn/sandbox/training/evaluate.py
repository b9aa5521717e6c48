"""Measures a trained dual encoder on fresh pictures.

Dimensions: n pictures, k classes, d embedding width.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from clip_unlearn.maths.intervals import wilson
from clip_unlearn.sandbox.classes import CLASS_NAMES, CLASSES, DOMAINS
from clip_unlearn.sandbox.sentences import ZERO_SHOT_TEMPLATE, captions
from clip_unlearn.sandbox.training.batches import tokenize
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.towers import image_embeddings, normalized_pixels, text_embeddings

_GALLERY: Final = 100


@torch.no_grad()
def embed_pool(model: Any, pool: Pool) -> torch.Tensor:
    """Return unit embeddings [n, d] of the pool's pictures."""
    chunks = [torch.from_numpy(pool.pixels[start : start + 256]) for start in range(0, len(pool.labels), 256)]
    return torch.cat([image_embeddings(model, normalized_pixels(chunk)) for chunk in chunks])


@torch.no_grad()
def embed_names(model: Any, tokenizer: Any, names: Sequence[str]) -> torch.Tensor:
    """Return unit embeddings [k, d] of the zero-shot prompts of the names."""
    return text_embeddings(model, tokenize(tokenizer, [ZERO_SHOT_TEMPLATE.format(name) for name in names]))


def evaluate(model: Any, tokenizer: Any, pool: Pool, forgotten: str = "") -> dict[str, Any]:
    """Return accuracies per domain, per class and by synonym, and retrieval, as plain data.

    With a `forgotten` class, `retained` counts the other classes' pictures only; the choice is always among all
    classes.
    """
    images = embed_pool(model, pool)
    right = _right(images, embed_names(model, tokenizer, CLASS_NAMES), pool)
    figures: dict[str, Any] = {
        "by_domain": {name: share_of(right[pool.domains == number]) for number, name in enumerate(DOMAINS)},
        "by_class": {name: share_of(right[pool.labels == number]) for number, name in enumerate(CLASS_NAMES)},
        "by_synonym": _by_synonym(model, tokenizer, images, pool),
        "caption_to_image_recall_at_1": _retrieval(model, tokenizer, images, pool),
    }
    if forgotten:
        gone = pool.labels == CLASS_NAMES.index(forgotten)
        figures["forgotten"] = share_of(right[gone])
        figures["retained"] = share_of(right[~gone])
        figures["retained_by_domain"] = {
            name: share_of(right[~gone & (pool.domains == number)]) for number, name in enumerate(DOMAINS)
        }
    return figures


def _right(images: torch.Tensor, names: torch.Tensor, pool: Pool) -> NDArray[np.bool_]:
    chosen = (images @ names.T).argmax(dim=1).numpy()
    return np.asarray(chosen == pool.labels)


def share_of(right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the share of true answers with its count and Wilson 95 % interval, as plain data."""
    hits, count = int(right.sum()), len(right)
    low, high = wilson(hits, count)
    return {"value": round(hits / count, 4), "low": round(low, 4), "high": round(high, 4), "count": count}


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
            figures[synonym] = share_of(right)
            everything.append(right)
    return {"all": share_of(np.concatenate(everything)), **figures}


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
        result[domain] = share_of(np.array(hits))
    return result
