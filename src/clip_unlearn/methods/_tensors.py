"""Which weights of each tower a method may train, for models of every family."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from torch import nn

from clip_unlearn.core.embedding_map import used
from clip_unlearn.core.model import Model, TowerName

_BLOCK: Final = re.compile(r"\.\d+(\.|$)")
"""In the name of a part: it belongs to one of several numbered blocks."""


def tower_tensors(
    model: Model, *, projections: bool = False, convolutions: bool = True
) -> Mapping[TowerName, tuple[str, ...]]:
    """Return the names of the weights of each tower that may be selected, in the order of the model.

    A weight belongs to the tower whose embedding gives it a gradient; a weight of both belongs to both, and a tied one
    goes by its first name. Left out as published, whatever the family calls them: scale and shift of batch
    normalisation (by type of module); in the text tower every embedding table (by type), whatever has `position` in its
    name, the final layer normalisation (the last one of the tower, where it is not in a numbered block) and, unless
    `projections` is set, the text readout. Logit scale and bias belong to no tower, statistics are no parameters.
    Without `convolutions` also the weights of convolutions and the positions of the image tower, which is the published
    choice for convolutional towers: it leaves the attention pool alone.

    Source: Kravets and Namboodiri, arXiv 2407.07485; types instead of names are ours.
    """
    parts = dict(model.module.named_modules())
    candidates = [name for name, part in _owners(model, parts) if not isinstance(part, nn.modules.batchnorm._BatchNorm)]
    image, text = (used(model, tower, candidates) for tower in ("image", "text"))
    if not convolutions:
        image = tuple(
            name
            for name in image
            if not isinstance(parts[_part(name)], nn.modules.conv._ConvNd) and "position" not in name
        )
    readout = model.readout("text")
    kept = () if projections or readout is None else (readout.weight, readout.bias)
    kept_tensors = {id(model.weights[name]) for name in kept if name is not None}
    last = _final_norm(parts, text)
    text = tuple(
        name
        for name in text
        if not isinstance(parts[_part(name)], nn.Embedding)
        and "position" not in name
        and _part(name) != last
        and id(model.weights[name]) not in kept_tensors
    )
    return {"image": image, "text": text}


def _owners(model: Model, parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Yield every parameter of floating numbers once, with the module that it belongs to."""
    seen = set()
    for name, weight in model.weights.items():
        if isinstance(weight, nn.Parameter) and weight.is_floating_point() and id(weight) not in seen:
            seen.add(id(weight))
            yield name, parts[_part(name)]


def _part(name: str) -> str:
    return name.rpartition(".")[0]


def _final_norm(parts: Mapping[str, nn.Module], names: tuple[str, ...]) -> str | None:
    norms = [_part(name) for name in names if isinstance(parts[_part(name)], nn.LayerNorm)]
    return norms[-1] if norms and not _BLOCK.search(norms[-1]) else None
