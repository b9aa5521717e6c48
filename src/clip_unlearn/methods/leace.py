"""Erase what labelled images tell of the class: affine concept erasure. n images, d width, k classes to forget."""

from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.method import Method, Need
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.erasure import Moments, fit_eraser
from clip_unlearn.maths.vectors import unit
from clip_unlearn.synthesis.album import STANDARD, attempt_album
from clip_unlearn.synthesis.ascend import Ascent

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

    With pictures="synthetic" it needs names alone: the model makes pictures of the class and of names to retain, by
    gradient ascent, and they stand in for images. That takes gradients and far longer than the closed form, and the
    guarantee is then about synthetic pictures: what tells these apart need not be what tells photographs apart, so
    measure it on real ones. In the embedded world it carries over for most classes; "car" still kept 32 % of its
    accuracy, one of three domains, and cost the others 4 points, which `names` repaired.
    """

    needs: ClassVar = frozenset({"texts", "images"})
    paper: ClassVar = "Belrose et al. 2023, arXiv 2306.03819 (LEACE); the linear form and the erased names are ours"
    ceiling: ClassVar = "F2"

    pictures: Literal["real", "synthetic"] = "real"
    """Where pictures come from: from the images of the request, or from the model itself."""

    pictures_each: int = Field(default=8, ge=2)
    """Synthetic pictures of each name. As many of each as of every other, so that the mean embedding is no more that of
    the class than it is in real data."""

    retained_names: int = Field(default=64, ge=1)
    """Most names to retain, or of the background where there are none, that synthetic pictures are made of; of more
    names, as many from all over the list."""

    ascent: Ascent = STANDARD
    """How synthetic pictures are made."""

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

    def requires(self) -> frozenset[Need]:
        """Return that images are needed, or, with synthetic pictures, gradients and names to retain."""
        return self.needs if self.pictures == "real" else frozenset({"texts", "retain", "gradients"})

    @torch.no_grad()
    def forget(self, model: Model, request: Request) -> Patch:
        """Return one affine output map for the image tower; empty, with the reason, where the images look alike.

        Raises:
            UnsupportedError: if the request has no images, or too few synthetic pictures are recognised.
            DataError: if the images have changed, have no labels, or show only the class or none of it.
        """
        real = self.pictures == "real"
        features, labels = features_of_images(model, request) if real else self._features_of_album(model, request)
        moments = Moments.empty(features.shape[1], labels.shape[1])
        for start in range(0, len(features), BATCH):
            moments = moments.add(features[start : start + BATCH], labels[start : start + BATCH])
        level = _name_directions(model, request).cpu() if self.names else None
        eraser = fit_eraser(moments, shrinkage=self.shrinkage, offset=self.offset, level=level)
        if eraser.rank == 0:
            return Patch(reason="The mean embedding of the class equals that of the other images.")
        return Patch(outputs={"image": eraser.as_map()})

    def _features_of_album(self, model: Model, request: Request) -> tuple[Tensor, Tensor]:
        """Return the embeddings of accepted synthetic pictures, and which class to forget each shows: [n, d], [n, k].

        Raises:
            UnsupportedError: if too few pictures of a class to forget are accepted, or none of a name to retain.
        """
        retained = request.retain or request.background
        count = min(self.retained_names, len(retained))
        shown = [retained[place * len(retained) // count] for place in range(count)]
        made = partial(attempt_album, model, request, count=self.pictures_each, settings=self.ascent, seed=request.seed)
        own = made(request.forget_names).checked().accepted_only()
        # A name among many of which no picture succeeds is no reason to stop.
        others = made(shown).accepted_only()
        if not len(others.labels):
            raise UnsupportedError(
                f"No synthetic picture of {count} names to retain was recognised within {self.ascent.steps} steps. "
                "Allow more steps or a lower probability with --set ascent."
            )
        features = torch.cat([own.embeddings, others.embeddings])
        labels = torch.zeros(len(features), len(request.forget), dtype=torch.float64)
        labels[torch.arange(len(own.labels)), own.labels] = 1.0
        return features, labels


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
