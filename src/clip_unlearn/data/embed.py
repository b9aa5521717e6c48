"""Embeddings of images, computed once per encoder and data set. Dimensions: n kept images, d embedding width."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias, final

import torch
from torch import Tensor

from clip_unlearn.core.embedding_map import tower_digest
from clip_unlearn.core.model import Model
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.prepared import batches
from clip_unlearn.errors import DataError, StorageError, WeightsError
from clip_unlearn.files import digest, paths, tensors

CACHE_VERSION: Final = 2
"""Version of the cache file's content; part of its name."""

BAD_SHARE: Final = 0.01
"""Largest share of unreadable images; one is always allowed, beside at least one that is readable."""

BAD_RUN: Final = 100
"""Most unreadable images in a row."""

SMALL: Final = 5_000_000
"""Number of weights under which one thread is the fastest."""

CPU_NUMBERS: Final = 500_000
"""Numbers in one batch of pixels on a CPU."""

ROWS: Final = 65_536
"""Features that are read out together."""

FEATURES: Final = "features"
"""Part of the key of what was held before the last layer."""

Progress: TypeAlias = Callable[[int, int], None]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """Embeddings of the readable images of a set."""

    vectors: Tensor
    """Not normalised, float32 on the CPU: [n, d]."""

    kept: tuple[int, ...]
    """Index into the set of every row, ascending."""

    quarantine: tuple[str, ...]
    """The unreadable images, "key: reason"."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Raw:
    """What is kept of a set: features before the last layer, or embeddings, and why an image has none."""

    vectors: Tensor
    kept: tuple[int, ...]
    reasons: tuple[str, ...]


def embed_images(
    model: Model, images: ImageSet, *, batch_size: int | None = None, progress: Progress | None = None
) -> Embeddings:
    """Return the embeddings of the images, from the cache where they were computed before.

    Cached is what the image tower holds before its last linear layer, or, where it shows no such layer, its embeddings;
    by the weights it depends on, the images' bytes and preprocessing. That layer and the model's output map are applied
    after loading, so models that differ in them or in the text tower alone share it. CLIP_UNLEARN_CACHE=off turns the
    cache off. `progress` is called with the number of images done and of all. Without `batch_size` it follows from the
    picture size and the device.

    Raises:
        DataError: if the set is empty, or more than 1 % of the images (but more than one) or 101 in a row are
            unreadable, or none is readable.
        WeightsError: if the encoder gives NaN or infinity.
    """
    return embed_with_all([model], images, batch_size=batch_size, progress=progress)[0]


def embed_with_all(
    models: Sequence[Model], images: ImageSet, *, batch_size: int | None = None, progress: Progress | None = None
) -> tuple[Embeddings, ...]:
    """Return the embeddings of the images by each model; see `embed_images`.

    Every picture is decoded and prepared once for all models that are not in the cache.

    Raises:
        ValueError: if the models prepare pictures differently.
        DataError, WeightsError: as `embed_images` does.
    """
    if len({model.adapter.preparation for model in models}) > 1:
        raise ValueError("models that prepare pictures differently cannot share them")
    if not len(images):
        raise DataError(f"{images.where} has no images to embed. Give at least one.")
    views = [below_the_last_layer(model) or model.replace(outputs={}) for model in models]
    keys = [_key(view, images) for view in views]
    found = {key: raw for key in dict.fromkeys(keys) if (raw := _load(_path(key), len(images))) is not None}
    missing = {key: view for key, view in zip(keys, views, strict=True) if key not in found}
    if missing:
        for key, raw in zip(missing, _compute(list(missing.values()), images, batch_size, progress), strict=True):
            found[key] = raw
            _store(_path(key), raw)
    elif progress:
        progress(len(images), len(images))
    return tuple(_mapped(model, images, found[key]) for model, key in zip(models, keys, strict=True))


def to_embed(models: Sequence[Model], images: ImageSet) -> int:
    """Return how many times the images pass a tower to embed them: once for all models that share it, 0 if cached."""
    keys = {_key(below_the_last_layer(model) or model.replace(outputs={}), images) for model in models}
    return sum((path := _path(key)) is None or not path.exists() for key in keys)


def below_the_last_layer(model: Model) -> Model | None:
    """Return a model whose image embeddings are what this one holds before its last linear layer, if it shows that."""
    tower = model.adapter.image
    if tower.features is None or tower.readout is None:
        return None
    below = replace(tower, embed=tower.features, features=None)
    named = digest.of_json([model.adapter.preparation, FEATURES])  # A key of their own among what is kept.
    return replace(model, adapter=replace(model.adapter, image=below, preparation=named), outputs={})


def _mapped(model: Model, images: ImageSet, raw: _Raw) -> Embeddings:
    readout, output, vectors = model.readout("image"), model.outputs.get("image"), raw.vectors
    with torch.no_grad():
        if readout is not None and model.adapter.image.features is not None:
            like = model.weights[readout.weight]
            parts = (readout.of(part.to(like), model.weights).float().cpu() for part in torch.split(vectors, ROWS))
            vectors = torch.cat(list(parts))
            _check_finite(model, images, vectors, raw.kept)
        vectors = vectors if output is None else output(vectors)
    missing = sorted(set(range(len(images))) - set(raw.kept))
    reasons = zip(missing, raw.reasons, strict=True)
    return Embeddings(
        vectors=vectors, kept=raw.kept, quarantine=tuple(f"{images.keys[index]}: {reason}" for index, reason in reasons)
    )


def _compute(
    models: Sequence[Model], images: ImageSet, batch_size: int | None, progress: Progress | None
) -> list[_Raw]:
    rows: list[list[Tensor]] = [[] for _ in models]
    kept: list[int] = []
    bad: list[tuple[int, str]] = []
    prepare, size = models[0].adapter.prepare, batch_size or _batch_size(models[0])
    with _threads(models), contextlib.closing(batches(images, prepare, size)) as prepared, torch.no_grad():
        for batch in prepared:
            bad.extend(batch.bad)
            _check_bad(images, bad)
            if batch.kept:
                pixels = torch.cat(batch.pixels)
                for model, own in zip(models, rows, strict=True):
                    own.append(model.images(pixels).float().cpu())
                    _check_finite(model, images, own[-1], batch.kept)
            kept.extend(batch.kept)
            if progress:
                progress(len(kept) + len(bad), len(images))
    reasons = tuple(reason for _, reason in sorted(bad))
    return [_Raw(vectors=torch.cat(own), kept=tuple(kept), reasons=reasons) for own in rows]


def _batch_size(model: Model) -> int:
    """Return 64 on an accelerator; on a CPU about half a million numbers, beyond which memory traffic slows it down."""
    if model.device.type != "cpu":
        return 64
    pixels = model.adapter.pixels
    return min(64, max(8, CPU_NUMBERS // (3 * pixels.height * pixels.width)))


@contextlib.contextmanager
def _threads(models: Sequence[Model]) -> Iterator[None]:
    """Compute small models with one thread: two that wait for each other after every tiny step are ten times slower."""
    before = torch.get_num_threads()
    if max(sum(weight.numel() for weight in model.weights.values()) for model in models) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_bad(images: ImageSet, bad: list[tuple[int, str]]) -> None:
    allowed = min(max(1, int(BAD_SHARE * len(images))), len(images) - 1)
    indices = {index for index, _ in bad}
    starts = [index for index in indices if index - 1 not in indices]
    run = next((index for index in starts if all(index + step in indices for step in range(BAD_RUN + 1))), None)
    if len(bad) <= allowed and run is None:
        return
    problem = f"{len(bad)} of {len(images)} images" if run is None else f"more than {BAD_RUN} images in a row"
    index, reason = min(bad)
    raise DataError(f"{images.where}: {problem} cannot be read. The first is {images.keys[index]}: {reason}")


def _check_finite(model: Model, images: ImageSet, rows: Tensor, kept: tuple[int, ...]) -> None:
    finite = torch.isfinite(rows).all(dim=1)
    if not bool(finite.all()):
        key = images.keys[kept[int((~finite).nonzero()[0])]]
        raise WeightsError(f"{model.source.where} gives NaN or infinity for '{key}'. Use a sound checkpoint.")


def _key(view: Model, images: ImageSet) -> str:
    """Return what rows are known by."""
    tower = tower_digest(view, "image")
    return digest.of_json([CACHE_VERSION, tower, images.contents, view.adapter.preparation])


def _path(key: str) -> Path | None:
    off = os.environ.get("CLIP_UNLEARN_CACHE", "").lower() == "off"
    return None if off else paths.cache_folder() / "embeddings" / f"{key}.safetensors"


def _load(path: Path | None, count: int) -> _Raw | None:
    """Return what a cache file holds, or None where there is none, or it is damaged or of another set."""
    if path is None:
        return None
    try:
        stored = tensors.read(path)
        vectors, kept = stored["vectors"], tuple(int(index) for index in stored["kept"].tolist())
        reasons = tuple(str(reason) for reason in json.loads(bytes(stored["reasons"].tolist())))
    except (WeightsError, OSError, KeyError, ValueError, TypeError):
        return None
    fits = vectors.ndim == 2 and vectors.dtype == torch.float32 and len(vectors) == len(kept)
    known = tuple(sorted(set(kept))) == kept and set(kept) <= set(range(count))
    return (
        _Raw(vectors=vectors, kept=kept, reasons=reasons)
        if fits and known and len(kept) + len(reasons) == count
        else None
    )


def _store(path: Path | None, raw: _Raw) -> None:
    if path is None:
        return
    content = {
        "vectors": raw.vectors,
        "kept": torch.tensor(raw.kept, dtype=torch.int64),
        "reasons": torch.tensor(list(json.dumps(raw.reasons).encode()), dtype=torch.uint8),
    }
    # A full disk costs the next run its time, not this one its result.
    with contextlib.suppress(StorageError):
        tensors.write(path, content)
