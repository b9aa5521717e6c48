"""Embeddings of long lists of sentences, computed once per encoder. n sentences, d embedding width."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.errors import StorageError, WeightsError
from clip_unlearn.files import digest, paths, tensors
from clip_unlearn.maths.vectors import mean_unit_rows

CACHE_VERSION: Final = 1
"""Version of the cache file's content; part of its name."""


MANY: Final = 300
"""Length from which on a list of names is looked up in a table."""


@torch.no_grad()
def embed_texts(model: Model, sentences: Sequence[str]) -> Tensor:
    """Return the embeddings of the sentences, not normalised, in float32: [n, d].

    From the cache where they were computed before, by weights and sentences; the model's output map is applied after
    loading. CLIP_UNLEARN_CACHE=off turns the cache off.
    """
    path = _cache_path(model, sentences)
    raw = _load(path, len(sentences)) if path else None
    if raw is None:
        raw = model.replace(outputs={}).texts(sentences).float().cpu()
        if path and bool(raw.isfinite().all()):
            # A full disk costs the next run its time, not this one its result.
            with contextlib.suppress(StorageError):
                tensors.write(path, {"texts": raw})
    output = model.outputs.get("text")
    vectors = raw.to(model.device)
    return vectors if output is None else output(vectors)


def name_rows(model: Model, request: Request, names: Sequence[str], *, table: Sequence[str] = ()) -> Tensor:
    """Return one row per name, the mean of its unit embeddings over the templates, in float64: [len(names), d].

    Names of a long list that stand in `table` are taken from the embeddings of the whole table, which are cached: lists
    that differ in a few names share them.
    """
    if not names:
        return torch.empty((0, 0), dtype=torch.float64, device=model.device)
    places = {name: place for place, name in enumerate(table)} if len(names) >= MANY else {}
    known = [place for place, name in enumerate(names) if name in places]
    other = [place for place, name in enumerate(names) if name not in places]
    parts = []
    if known:
        rows = mean_unit_rows(embed_texts(model, request.sentences(table)), len(request.templates))
        parts.append(rows[[places[names[place]] for place in known]])
    if other:
        with torch.no_grad():
            embeddings = model.texts(request.sentences([names[place] for place in other]))
        parts.append(mean_unit_rows(embeddings, len(request.templates)))
    return torch.cat(parts)[torch.tensor([*known, *other]).argsort().to(parts[0].device)]


def _cache_path(model: Model, sentences: Sequence[str]) -> Path | None:
    if os.environ.get("CLIP_UNLEARN_CACHE", "").lower() == "off":
        return None
    name = digest.of_json([CACHE_VERSION, "texts", model.encoder_fingerprint, list(sentences)])
    return paths.cache_folder() / "embeddings" / f"{name}.safetensors"


def _load(path: Path, count: int) -> Tensor | None:
    """Return what a cache file holds, or None where it is missing or damaged."""
    try:
        stored = tensors.read(path)["texts"]
    except (WeightsError, OSError, KeyError):
        return None
    return stored if stored.ndim == 2 and len(stored) == count and stored.dtype == torch.float32 else None
