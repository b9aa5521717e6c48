"""Embeddings of images, computed once per encoder and data set. Dimensions: n kept images, d embedding width."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, final

import torch
from torch import Tensor

from clip_unlearn.core.embedding_map import shares_features
from clip_unlearn.core.model import Model
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.prepared import batches
from clip_unlearn.errors import DataError, StorageError, WeightsError
from clip_unlearn.files import digest, paths, tensors

CACHE_VERSION: Final = 1
"""Version of the cache file's content; part of its name."""

BAD_SHARE: Final = 0.01
"""Largest share of unreadable images; one is always allowed, beside at least one that is readable."""

BAD_RUN: Final = 100
"""Most unreadable images in a row."""

SMALL: Final = 5_000_000
"""Number of weights under which one thread is the fastest."""

CPU_NUMBERS: Final = 500_000
"""Numbers in one batch of pixels on a CPU."""

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
    """Encoder embeddings before any output map, and the reason of every image that has none."""

    vectors: Tensor
    kept: tuple[int, ...]
    reasons: tuple[str, ...]


def embed_images(
    model: Model, images: ImageSet, *, batch_size: int | None = None, progress: Progress | None = None
) -> Embeddings:
    """Return the embeddings of the images, from the cache where they were computed before.

    Cached are the embeddings of the encoder itself, by weights, data and preprocessing; the model's output map is
    applied after loading, so models that differ in it alone share them. CLIP_UNLEARN_CACHE=off turns the cache off.
    `progress` is called with the number of images done and of all. Without `batch_size` it follows from the picture
    size and the device.

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
    places = [_cache_path(model, images) for model in models]
    found = [_load(path, len(images)) if path else None for path in places]
    missing = [number for number, raw in enumerate(found) if raw is None]
    if missing:
        for number, raw in zip(
            missing, _compute([models[n] for n in missing], images, batch_size, progress), strict=True
        ):
            found[number] = raw
            if path := places[number]:
                _store(path, raw)
    elif progress:
        progress(len(images), len(images))
    return tuple(_mapped(model, images, raw) for model, raw in zip(models, found, strict=True) if raw is not None)


def to_embed(models: Sequence[Model], images: ImageSet) -> int:
    """Return how many times the images pass a tower to embed them: once for all models that share it, 0 if cached."""
    places = [(model, _cache_path(model, images)) for model in models]
    missing = [model for model, path in places if path is None or not path.exists()]
    return 1 if len(missing) > 1 and _share(missing) else len(missing)


def _mapped(model: Model, images: ImageSet, raw: _Raw) -> Embeddings:
    output = model.outputs.get("image")
    with torch.no_grad():
        vectors = raw.vectors if output is None else output(raw.vectors)
    missing = sorted(set(range(len(images))) - set(raw.kept))
    reasons = zip(missing, raw.reasons, strict=True)
    return Embeddings(
        vectors=vectors, kept=raw.kept, quarantine=tuple(f"{images.keys[index]}: {reason}" for index, reason in reasons)
    )


def _compute(
    models: Sequence[Model], images: ImageSet, batch_size: int | None, progress: Progress | None
) -> list[_Raw]:
    encoders = [model.replace(outputs={}) for model in models]
    rows: list[list[Tensor]] = [[] for _ in encoders]
    kept: list[int] = []
    bad: list[tuple[int, str]] = []
    encode = _encoder(encoders)
    prepare, size = models[0].adapter.prepare, batch_size or _batch_size(models[0])
    with _threads(models), contextlib.closing(batches(images, prepare, size)) as prepared, torch.no_grad():
        for batch in prepared:
            bad.extend(batch.bad)
            _check_bad(images, bad)
            if batch.kept:
                pixels = torch.cat(batch.pixels)
                for encoder, own, embedded in zip(encoders, rows, encode(pixels), strict=True):
                    own.append(embedded.float().cpu())
                    _check_finite(encoder, images, own[-1], batch.kept)
            kept.extend(batch.kept)
            if progress:
                progress(len(kept) + len(bad), len(images))
    reasons = tuple(reason for _, reason in sorted(bad))
    return [_Raw(vectors=torch.cat(own), kept=tuple(kept), reasons=reasons) for own in rows]


def _encoder(models: Sequence[Model]) -> Callable[[Tensor], list[Tensor]]:
    """Return what embeds pixels with all models; where they differ in the readout alone, the tower is run once."""
    first = models[0]
    if len(models) == 1 or not _share(models):
        return lambda pixels: [model.images(pixels) for model in models]

    def encode(pixels: Tensor) -> list[Tensor]:
        features = first.image_features(pixels)
        if features is None:
            return [model.images(pixels) for model in models]
        return [model.read_out("image", features) for model in models]

    return encode


def _share(models: Sequence[Model]) -> bool:
    """Return whether the models differ in the last layer of the image tower alone."""
    return all(shares_features(models[0], other, "image") for other in models[1:])


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


def _cache_path(model: Model, images: ImageSet) -> Path | None:
    if os.environ.get("CLIP_UNLEARN_CACHE", "").lower() == "off":
        return None
    name = digest.of_json([CACHE_VERSION, model.encoder_fingerprint, images.digest, model.adapter.preparation])
    return paths.cache_folder() / "embeddings" / f"{name}.safetensors"


def _load(path: Path, count: int) -> _Raw | None:
    """Return what a cache file holds, or None where it is missing, damaged or of another set."""
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


def _store(path: Path, raw: _Raw) -> None:
    content = {
        "vectors": raw.vectors,
        "kept": torch.tensor(raw.kept, dtype=torch.int64),
        "reasons": torch.tensor(list(json.dumps(raw.reasons).encode()), dtype=torch.uint8),
    }
    # A full disk costs the next run its time, not this one its result.
    with contextlib.suppress(StorageError):
        tensors.write(path, content)
