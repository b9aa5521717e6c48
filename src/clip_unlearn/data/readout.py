"""A model whose towers are run once, for all that depends on their last layer alone. D feature width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn.functional import linear

from clip_unlearn.core.copies import named_tensors
from clip_unlearn.core.model import Model, Readout, Tokens, TowerName
from clip_unlearn.errors import UnsupportedError

FEATURES = "features"
"""What looked-up sentences are called in a token batch."""


def at_readout(model: Model, towers: frozenset[TowerName]) -> Model:
    """Return a model of the same weights in which some towers are their last linear layer: features in, embeddings out.

    Its `prepare` makes features of pictures, and its `tokenize` of sentences, by all that lies below that layer in
    `model`. Each picture and sentence is run alone, so that its rounding depends on no other, and a sentence once.

    Raises:
        UnsupportedError: if a tower does not end in a linear layer, or hides what it holds before it.
    """
    adapter = model.adapter
    if "image" in towers:
        embed = _last_layer(_shown(model, "image"))
        adapter = replace(adapter, image=replace(adapter.image, embed=embed), prepare=_PictureFeatures(model=model))
    if "text" in towers:
        layer = _last_layer(_shown(model, "text"))
        text = replace(adapter.text, embed=lambda module, tokens: layer(module, tokens[FEATURES]))
        adapter = replace(adapter, text=text, tokenize=_SentenceFeatures(model=model))
    return replace(model, adapter=adapter)


def _shown(model: Model, tower: TowerName) -> Readout:
    own = model.adapter.image if tower == "image" else model.adapter.text
    if own.readout is None or own.features is None:
        raise UnsupportedError(
            f"The {tower} tower of {model.source.where} does not end in a linear layer, or hides what it holds before "
            "it. Train it whole with descent.depth=encoder, or choose the other tower with descent.towers."
        )
    return own.readout


def _last_layer(readout: Readout) -> Callable[[nn.Module, Tensor], Tensor]:
    def embed(module: nn.Module, features: Tensor) -> Tensor:
        weights = named_tensors(module)
        weight, bias = weights[readout.weight], None if readout.bias is None else weights[readout.bias]
        return linear(features.to(weight), weight.T if readout.transposed else weight, bias)

    return embed


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _PictureFeatures:
    """From pictures to what the image tower holds before its last layer, in float32 on the CPU."""

    model: Model

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image]) -> Tensor:
        pixels = self.model.adapter.prepare(pictures)
        return torch.cat([_found(self.model.image_features(one)) for one in torch.split(pixels, 1)])


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _SentenceFeatures:
    """From sentences to what the text tower holds before its last layer, in float32 on the CPU."""

    model: Model
    _known: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Tokens:
        for one in sentences:
            if one not in self._known:
                self._known[one] = _found(self.model.text_features([one]))
        return {FEATURES: torch.cat([self._known[one] for one in sentences])}


def _found(features: Tensor | None) -> Tensor:
    if features is None:
        raise ValueError("a tower that showed its features before hides them now")
    return features.float().cpu()
