"""What the blocks of an image tower give, and what the rest of the tower makes of it. n images, p width of a block."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn

from clip_unlearn.core.model import Model
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.prepared import batches
from clip_unlearn.errors import DataError, UndefinedError
from clip_unlearn.probes.audit._scene import BATCH, Shown
from clip_unlearn.probes.audit._weights import module_of

Listener: TypeAlias = Callable[[str, Tensor], Tensor | None]
"""Is told what a block gives, and may return what is to go on in its place."""


@torch.no_grad()
def block_means(model: Model, images: ImageSet) -> Mapping[str, Shown]:
    """Return what every block of the image tower gives, averaged over places: [n, p] by block, in their order.

    Raises:
        DataError: if none of the images can be read.
        UndefinedError: if the image tower has no blocks.
    """
    parts: dict[str, list[Tensor]] = {}
    places: list[int] = []

    def note(block: str, output: Tensor) -> None:
        parts.setdefault(block, []).append(_pooled(output).float().cpu())

    with _listening(model.module, note):
        for pixels, kept in _readable(model, images):
            model.images(pixels)
            places += kept
    return _checked(parts, tuple(places))


@torch.no_grad()
def lens(model: Model, images: ImageSet) -> Mapping[str, Shown]:
    """Return the embeddings of images with a block's output in the place of the last block's: [n, d] by block.

    Norm, pooling and readout after the blocks are the family's own code: the tower runs once, and at its last block
    what all blocks gave goes on together, as more images. Blocks whose output has another shape than the last one's are
    left out; the embeddings of the last block are the model's own.

    Raises:
        DataError: if none of the images can be read.
        UndefinedError: if the image tower has no blocks.
    """
    parts: dict[str, list[Tensor]] = {}
    places: list[int] = []
    for pixels, kept in _readable(model, images):
        for block, rows in _through(model, pixels).items():
            parts.setdefault(block, []).append(rows)
        places += kept
    return _checked(parts, tuple(places))


def _through(model: Model, pixels: Tensor) -> Mapping[str, Tensor]:
    """Return the embeddings of one batch by the block whose output stands in the place of the last one's."""
    last, given = _last(model, pixels[:1]), dict[str, Tensor]()

    def put(block: str, output: Tensor) -> Tensor | None:
        if len(output) != len(pixels):
            return None
        given[block] = output
        return torch.cat([one for one in given.values() if one.shape == output.shape]) if block == last else None

    with _listening(model.module, put):
        rows = model.images(pixels)
    alike = [block for block, one in given.items() if last in given and one.shape == given[last].shape]
    whole = len(rows) == len(alike) * len(pixels)
    return dict(zip(alike, torch.split(rows, len(pixels)), strict=True)) if whole else {}


def _last(model: Model, pixels: Tensor) -> str:
    """Return the block that comes last, "" where there is none."""
    heard = [""]
    with _listening(model.module, lambda block, _: heard.append(block)):
        model.images(pixels)
    return heard[-1]


@contextmanager
def _listening(module: nn.Module, listener: Listener) -> Iterator[None]:
    """Tell the listener what every block gives while the context lasts."""

    def hook(block: str) -> Callable[[nn.Module, object, object], object]:
        def heard(_module: nn.Module, _inputs: object, output: object) -> object:
            first, *others = output if isinstance(output, tuple) else (output,)
            if not isinstance(first, Tensor) or first.dim() < 2 or (instead := listener(block, first)) is None:
                return None
            return (instead, *others) if isinstance(output, tuple) else instead

        return heard

    blocks = {name: inner for name, inner in module.named_modules() if name and _is_block(name)}
    handles = [inner.register_forward_hook(hook(name)) for name, inner in blocks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _readable(model: Model, images: ImageSet) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Yield pixels for a model, batch by batch, and the places of the images."""
    for batch in batches(images, model.adapter.prepare, BATCH):
        if batch.kept:
            yield torch.cat(batch.pixels).to(model.device), batch.kept


def _checked(parts: Mapping[str, list[Tensor]], places: tuple[int, ...]) -> Mapping[str, Shown]:
    """Return the rows of the blocks that gave one for every image."""
    if not places:
        raise DataError("none of the images can be read. Give images that can.")
    rows = {block: torch.cat(found) for block, found in parts.items()}
    found = {block: Shown(rows=own, kept=places) for block, own in rows.items() if len(own) == len(places)}
    if not found:
        raise UndefinedError("the image tower has no blocks to look into")
    return found


def _is_block(name: str) -> bool:
    """Return whether a module is counted, and none that it lies in is."""
    return name.rpartition(".")[2].isdigit() and module_of(f"{name}.weight") == name


def _pooled(output: Tensor) -> Tensor:
    """Return the mean over places: [n, tokens, p] or [n, p, height, width] -> [n, p]."""
    return output.flatten(2).mean(2) if output.dim() == 4 else output.mean(1) if output.dim() == 3 else output
