"""Erase what labelled images tell of the class: affine concept erasure. n images, d width, k classes to forget."""

from typing import ClassVar, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.erasure import Moments, fit_eraser
from clip_unlearn.maths.vectors import unit

BATCH = 4096
"""Samples that are taken to float64 at a time."""


@final
class Leace(Method):
    """Erase from image embeddings whatever a linear classifier could tell the class by, on the images given.

    z -> z - U (U^T C^+ U)^-1 U^T C^+ (z - mean), C the covariance of the embeddings and U spanning their
    cross-covariance with the labels "is a picture of this class": the affine map of least mean squared change after
    which no linear classifier of the embeddings does better on these images than one that ignores them. A statement
    about the images it was fitted on: a few pictures of a class carry over to others only in part. Needs labelled
    images of the class and of others; closed form. An edit of the last layer: it removes nothing from the features
    below, and says nothing about classifiers that are not linear.
    """

    needs: ClassVar = frozenset({"texts", "images"})
    paper: ClassVar = "Belrose et al. 2023, arXiv 2306.03819 (LEACE); the linear form and the erased names are ours"
    ceiling: ClassVar = "F2"

    shrinkage: float = Field(default=0.02, ge=0, le=1)
    """How far the covariance is drawn towards that of a ball: 0 is the least change on the images given, a little
    carries over better to others, 1 projects orthogonally. The guarantee is exact for every value."""

    offset: bool = True
    """Keep the mean embedding where it is by an offset, which most families can only hold as a map beside their
    weights. Without it the map is the linear one of least change: it folds into the weights, the guarantee is the same
    for classifiers with an intercept, and the mean embedding, common to all classes, moves a little."""

    names: bool = False
    """Level the images along the class's names as well, centred on the names to retain, for one direction per name.
    What pictures tell carries over to other pictures in part, and little of it from a few; names always do. Costs the
    other classes more."""

    @torch.no_grad()
    def forget(self, model: Model, request: Request) -> Patch:
        """Return one affine output map for the image tower; empty, with the reason, where the images look alike.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if the images have changed, have no labels, or show only the class or none of it.
        """
        features, labels = features_of_images(model, request)
        moments = Moments.empty(features.shape[1], labels.shape[1])
        for start in range(0, len(features), BATCH):
            moments = moments.add(features[start : start + BATCH], labels[start : start + BATCH])
        level = _name_directions(model, request).cpu() if self.names else None
        eraser = fit_eraser(moments, shrinkage=self.shrinkage, offset=self.offset, level=level)
        if eraser.rank == 0:
            return Patch(reason="The mean embedding of the class equals that of the other images.")
        return Patch(outputs={"image": eraser.as_map()})


def features_of_images(model: Model, request: Request) -> tuple[Tensor, Tensor]:
    """Return the embeddings of the request's images, and which class to forget each shows: [n, d], [n, k] of 0 and 1.

    Raises:
        UnsupportedError: if the request has no images.
        DataError: if they have changed, have no labels, or show only one of the classes or none of it.
    """
    if request.evidence is None:
        raise UnsupportedError("Leace needs images of the class. Give them with --data, or use Project.")
    images = open_data(request.evidence.where)
    if images.digest != request.evidence.digest:
        raise DataError(
            f"{images.where} is no longer what the request was made with. Give the images of then, or a new request."
        )
    asked = torch.tensor([images.class_index(name) for name in request.forget_names])
    embedded = embed_images(model, images)
    shown = torch.tensor([images.labels[index] for index in embedded.kept])
    labels = (shown.unsqueeze(1) == asked).double()
    for name, column in zip(request.forget_names, labels.T, strict=True):
        if column.min() == column.max():
            missing = "others" if bool(column[0]) else f"'{name}'"
            raise DataError(f"{images.where} has no readable images of {missing} to learn the difference. Add some.")
    return embedded.vectors, labels


def _name_directions(model: Model, request: Request) -> Tensor:
    """Return the mean unit embedding of every name to forget, less that of the names to retain: [names, d]."""

    def means(names: list[str] | tuple[str, ...]) -> Tensor:
        rows = unit(model.texts(request.sentences(names)).double())
        return rows.view(len(names), len(request.templates), -1).mean(1)

    directions = means([name for concept in request.forget for name in concept.names])
    return directions - means(request.retain).mean(0) if request.retain else directions
