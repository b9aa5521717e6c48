"""A model whose towers are run once, for all that depends on their last layer alone. D feature width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor, nn

from clip_unlearn.core.copies import named_tensors
from clip_unlearn.core.model import InputType, Model, Readout, Tokens, Tower, TowerName
from clip_unlearn.data.embed import FEATURES, Embeddings, below_the_last_layer, embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import UnsupportedError


def at_readout(model: Model, towers: frozenset[TowerName]) -> Model:
    """Return a model of the same weights in which some towers are their last linear layer: features in, embeddings out.

    Its images are rows of `image_features`. Its sentences are run through all that lies below that layer in `model`,
    each once and alone, so that its rounding depends on no other.

    Raises:
        UnsupportedError: if a tower does not end in a linear layer, or hides what it holds before it.
    """
    adapter = model.adapter
    if "image" in towers:
        _, last = _shown(model, "image", adapter.image)
        adapter = replace(adapter, image=replace(adapter.image, embed=_last_layer(last)))
    if "text" in towers:
        _, last = _shown(model, "text", adapter.text)
        layer = _last_layer(last)
        text = replace(adapter.text, embed=lambda module, tokens: layer(module, tokens[FEATURES]), features=None)
        adapter = replace(adapter, text=text, tokenize=_SentenceFeatures(model=model))
    return replace(model, adapter=adapter)


def image_features(model: Model, images: ImageSet) -> Tensor:
    """Return what the image tower holds before its last layer, in float32: [n, D]; 0 for images that cannot be read.

    Raises:
        UnsupportedError, DataError, WeightsError: as `embed_features` does.
    """
    found = embed_features(model, images)
    features = torch.zeros(len(images), found.vectors.shape[1])
    features[list(found.kept)] = found.vectors
    return features


def embed_features(model: Model, images: ImageSet) -> Embeddings:
    """Return what the image tower holds before its last layer for the readable images: [n, D].

    They are kept where embeddings are, so that the next request about these images needs no pass of the tower.

    Raises:
        UnsupportedError: if the tower does not end in a linear layer, or hides what it holds before it.
        DataError, WeightsError: as `embed_images` does.
    """
    view = below_the_last_layer(model)
    if view is None:
        raise _refusal(model, "image")
    return embed_images(view, images)


def _shown(
    model: Model, name: TowerName, tower: Tower[InputType]
) -> tuple[Callable[[nn.Module, InputType], Tensor], Readout]:
    """Return what a tower holds before its last linear layer, as a function, and that layer."""
    if tower.features is None or tower.readout is None:
        raise _refusal(model, name)
    return tower.features, tower.readout


def _refusal(model: Model, name: TowerName) -> UnsupportedError:
    return UnsupportedError(
        f"The {name} tower of {model.source.where} does not end in a linear layer, or hides what it holds before it. "
        "Train it whole with descent.depth=encoder, or choose the other tower with descent.towers."
    )


def _last_layer(readout: Readout) -> Callable[[nn.Module, Tensor], Tensor]:
    def embed(module: nn.Module, features: Tensor) -> Tensor:
        weights = named_tensors(module)
        return readout.of(features.to(weights[readout.weight]), weights)

    return embed


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
