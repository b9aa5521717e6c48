"""Pictures decoded and prepared in threads, a little ahead of the model. Dimensions: n images of one batch."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import torch
from PIL.Image import Image
from torch import Tensor

from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import DataError

CHUNK: Final = 4
"""Pictures that one thread holds decoded at a time; a full-size picture is 75 MB."""

THREADS: Final = 4
"""Most threads that decode."""

Prepare: TypeAlias = Callable[[Sequence[Image]], Tensor]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Pixels of the readable images among a run of indices, and the reasons of the others."""

    kept: tuple[int, ...]
    pixels: tuple[Tensor, ...]
    """Pieces [m, 3, height, width] that add up to [n, 3, height, width]."""

    bad: tuple[tuple[int, str], ...]


def batches(images: ImageSet, prepare: Prepare, batch_size: int) -> Generator[Batch, None, None]:
    """Yield batches in the order of the images; the next batch is decoded while this one is used.

    An image that cannot be decoded or prepared becomes a reason. Running out of memory is passed on.
    """
    runs = [range(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    with ThreadPoolExecutor(min(THREADS, max(1, (os.cpu_count() or 1) - 1))) as pool:

        def submit(run: range) -> list[Future[Batch]]:
            return [pool.submit(_chunk, images, prepare, run[at : at + CHUNK]) for at in range(0, len(run), CHUNK)]

        try:
            ahead = submit(runs[0]) if runs else []
            for following in [*runs[1:], range(0)]:
                current, ahead = ahead, submit(following)
                yield _joined([future.result() for future in current])
        finally:
            pool.shutdown(cancel_futures=True)


def pixels_of(images: ImageSet, prepare: Prepare, rows: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Return what a model takes of some images, [n, 3, height, width], and which of them could be read.

    Raises:
        DataError: if none can be read.
    """
    some = images.take(rows)
    found = list(batches(some, prepare, CHUNK))
    kept = tuple(rows[index] for batch in found for index in batch.kept)
    if not kept:
        raise DataError(f"{images.where}: none of {len(rows)} images can be read. Give images that can.")
    return torch.cat([piece for batch in found for piece in batch.pixels]), kept


def _joined(parts: Sequence[Batch]) -> Batch:
    return Batch(
        kept=tuple(index for part in parts for index in part.kept),
        pixels=tuple(piece for part in parts for piece in part.pixels),
        bad=tuple(each for part in parts for each in part.bad),
    )


def _chunk(images: ImageSet, prepare: Prepare, run: Sequence[int]) -> Batch:
    pictures: dict[int, Image] = {}
    bad = []
    for index in run:
        try:
            pictures[index] = images.picture(index)
        except DataError as error:
            bad.append((index, str(error).removeprefix(f"{images.keys[index]}: ")))
    try:
        pixels = [prepare(list(pictures.values()))] if pictures else []
        return Batch(kept=tuple(pictures), pixels=tuple(pixels), bad=tuple(bad))
    except (ValueError, ArithmeticError) as error:
        if len(run) > 1:  # One odd shape fails its neighbours too: find out which.
            return _joined([_chunk(images, prepare, [index]) for index in run])
        return Batch(kept=(), pixels=(), bad=((run[0], f"the model cannot take its shape ({error})."),))
