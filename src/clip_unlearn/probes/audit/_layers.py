"""The last layer of a tower as an attacker sees it. n samples, D feature width, d embedding width."""

from collections.abc import Sequence

import torch
from torch import Tensor

from clip_unlearn.core.embedding_map import shares_features
from clip_unlearn.core.model import Model, Readout, TowerName
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.readout import embed_features
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.audit._scene import Shown


def image_rows(model: Model, images: ImageSet, like: Model) -> Shown:
    """Return the image features of a model, those of `like` where both have the same."""
    _check(model, "image")
    found = embed_features(like if shares_features(model, like, "image") else model, images)
    return Shown(rows=found.vectors.double(), kept=found.kept)


@torch.no_grad()
def image_embeddings(model: Model, images: ImageSet, like: Model) -> Shown:
    """Return the embeddings of images by a model, from the features of `like` where both have the same."""
    if shares_features(model, like, "image"):
        shown = image_rows(like, images, like)
        features = shown.rows.to(model.weights[_check(model, "image").weight])
        return Shown(rows=model.read_out("image", features).detach().double().cpu(), kept=shown.kept)
    found = embed_images(model, images)
    return Shown(rows=found.vectors.double(), kept=found.kept)


@torch.no_grad()
def text_rows(model: Model, sentences: Sequence[str]) -> Tensor:
    """Return the text features of a model in float64: [n, D].

    Raises:
        UndefinedError: if the text tower hides what it holds before its last layer.
    """
    _check(model, "text")
    features = model.text_features(sentences)
    if features is None:
        raise UndefinedError("the text tower hides what it holds before its last layer")
    return features.double().cpu()


def read_texts(model: Model, rows: Tensor) -> Tensor:
    """Return the text embeddings of what the tower holds before its last layer, in float64: [n, D] -> [n, d]."""
    features = rows.to(model.weights[_check(model, "text").weight])
    return model.read_out("text", features).detach().double().cpu()


def last_layer(model: Model, tower: TowerName) -> Tensor:
    """Return the matrix M of z = h M that ends a tower, with an output map that follows it: [D, d] in float64.

    Offsets are no part of it: it is where a fit begins, not what it is compared with.
    """
    readout = _check(model, tower)
    weight = model.weights[readout.weight].detach().double().cpu()
    matrix, output = weight if readout.transposed else weight.T, model.outputs.get(tower)
    return matrix if output is None else matrix + (matrix @ output.down.double().cpu()) @ output.up.double().cpu()


def refitting(model: Model, tower: TowerName, rows: int) -> float:
    """Return about how many multiply-adds a fit of a tower's last layer to so many rows takes; 0 where it has none."""
    if model.readout(tower) is None:
        return 0
    width = len(last_layer(model, tower))
    return min(rows, width) * (rows * width + min(rows, width) ** 2 / 3)


def _check(model: Model, tower: TowerName) -> Readout:
    readout = model.readout(tower)
    if readout is None:
        raise UndefinedError(f"the {tower} tower of {model.source.where} does not end in a linear layer")
    return readout
