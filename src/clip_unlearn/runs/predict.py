"""What an edit will do to retained classes, told from embeddings alone. n pictures, k names, d embedding width."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core import readings
from clip_unlearn.core.embedding_map import embedding_map
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import answers, forget_indices
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.texts import name_rows
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.scores import cosines
from clip_unlearn.maths.vectors import unit
from clip_unlearn.prompts import thesaurus

PREDICTED: Final = "predicted retain accuracy change"

KNOWN: Final = 0.8
"""Share of imagined pictures that the unedited model classifies rightly: about what real pictures give."""

PICTURES: Final = 4000
"""Imagined pictures in all, where the classes are few."""

FEWEST: Final = 4
"""Imagined pictures of each class, where they are many."""

APART: Final = 1e-6
"""Lead over every other name that a name has on its own embedding, unless two names are the same to the model."""

HALVINGS: Final = 14
"""Halvings after which the noise is right to a tenth of a point of accuracy."""

SCORES: Final = 4_000_000
"""Scores that are held at a time."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Pictures of retained classes, real or imagined, and the names to choose from."""

    model: Model
    """The model before any edit."""

    request: Request
    names: tuple[str, ...]
    """The names to choose from [k]; those to forget are among them."""

    pictures: Tensor
    """Image embeddings before the edit, real ones not normalised [n, d]."""

    labels: Tensor
    """The right name of each picture [n]."""

    told: str
    """What the pictures are, in words."""

    again: Callable[[Model], Tensor] | None = None
    """Embed the pictures with another model [n, d]; None for imagined ones."""

    sized: bool = True
    """Whether the embeddings are as long as the model makes them, which an edit with an offset needs to know."""

    @cached_property
    def rows(self) -> Tensor:
        """Return the classifier row of every name before the edit: [k, d]."""
        return edited_rows(self.model, self.request, self.names)

    @cached_property
    def margins(self) -> Tensor:
        """Return the margin of every picture before the edit: [n]."""
        return margins(self.pictures, self.rows, self.labels)

    def margins_after(self, patch: Patch) -> Tensor:
        """Return the margin of every picture after the edit: [n].

        Raises:
            UnsupportedError: if the edit of imagined pictures is no linear map of their embeddings.
        """
        touched = bool(patch.deltas) or "text" in patch.outputs
        rows = edited_rows(self.model, self.request, self.names, patch) if touched else self.rows
        return margins(self._after(patch), rows, self.labels)

    def change(self, patch: Patch) -> Reading:
        """Return the predicted change of retained accuracy, paired.

        Raises:
            UnsupportedError: if the edit of imagined pictures is no linear map of their embeddings.
        """
        found = readings.change(PREDICTED, self.margins > 0, self.margins_after(patch) > 0, "high")
        return found.model_copy(update={"interval": f"{found.interval}, on {self.told}"})

    def _after(self, patch: Patch) -> Tensor:
        try:
            mapping = embedding_map(patch, self.model, "image")
        except UnsupportedError as error:
            if self.again is None:
                raise UnsupportedError(
                    "The edit goes below the last layer of the image tower, so names do not tell what it does to "
                    "pictures. Use forget with pictures, given with --data."
                ) from error
            return self.again(patch.apply(self.model))
        if mapping is None:
            return self.pictures
        if mapping.offset is not None and not self.sized:
            raise UnsupportedError(
                "The edit adds an offset, whose effect depends on how long image embeddings are. Give pictures with "
                "--data."
            )
        return mapping(self.pictures)


def edited_rows(model: Model, request: Request, names: tuple[str, ...], patch: Patch | None = None) -> Tensor:
    """Return the classifier row of every name, of the model or of the model after a patch: [k, d]."""
    if patch is None:
        return name_rows(model, request, names, table=thesaurus.vocabulary()).float().cpu()
    # The table is cached by weights; tables of weights that are only tried would fill the disk.
    table = () if patch.deltas else thesaurus.vocabulary()
    return name_rows(patch.apply(model), request, names, table=table).float().cpu()


def margins(pictures: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
    """Return by how much the right name of each picture leads: its cosine less that of the best other name.

    Positive where the picture is classified rightly; a tie, and so a null embedding, has margin 0. In [-2, 2].

    Shapes: [n, d], [k, d], [n] -> [n]; k at least 2.
    """
    size = max(1, SCORES // len(rows))
    parts = [torch.empty(0)]
    for start in range(0, len(pictures), size):
        scores, right = cosines(pictures[start : start + size], rows), labels[start : start + size].unsqueeze(1)
        own, others = scores.gather(1, right), scores.scatter(1, right, -torch.inf)
        parts.append(own[:, 0] - others.amax(dim=1))
    return torch.cat(parts)


def scene_of_names(model: Model, request: Request) -> Scene:
    """Return imagined pictures of the names to retain, or of the background where there are none.

    A picture of a class is its name's unit embedding plus isotropic Gaussian noise, several for each class, drawn with
    the request's seed. The noise is as large as lets the unedited model classify 80 % of them rightly: an assumption,
    since without pictures nobody knows how well the model does on them. Names that the model does not tell from
    another have no pictures. All names to forget are among the names to choose from.

    Raises:
        UnsupportedError: if there are no names to retain, or the model tells none of them apart.
    """
    kept = request.retain or request.background
    if not kept:
        raise UnsupportedError(
            "Without images a prediction needs names to retain. Give --retain NAMES, --background nouns, or --data."
        )
    names = (*kept, *(name for concept in request.forget for name in concept.names))
    rows = unit(edited_rows(model, request, names))
    own = torch.arange(len(kept))
    apart = own[margins(rows[: len(kept)], rows, own) > APART]
    if not len(apart):
        raise UnsupportedError(
            "The model does not tell the names to retain apart, so they say nothing about pictures. Give --data."
        )
    labels = apart.repeat(max(FEWEST, PICTURES // len(apart)))
    generator = torch.Generator().manual_seed(request.seed)
    noise = torch.randn(len(labels), rows.shape[1], generator=generator) / rows.shape[1] ** 0.5
    return Scene(
        model=model,
        request=request,
        names=names,
        pictures=rows[labels] + _noise_size(rows, labels, noise) * noise,
        labels=labels,
        told=f"{len(labels)} imagined pictures of {len(apart)} names",
        sized=False,
    )


def scene_of_images(model: Model, request: Request, images: ImageSet) -> Scene:
    """Return the pictures of retained classes in a labelled set, with the class names of the set to choose from.

    Raises:
        DataError: if the set shows nothing but classes to forget.
    """
    found = answers(model, images, request)
    retained = ~torch.isin(found.labels, torch.tensor(forget_indices(images, request)))
    if not bool(retained.any()):
        raise DataError(f"{images.where} shows no class but those to forget. Give pictures of other classes too.")

    def again(edited: Model) -> Tensor:
        return embed_images(edited, images, progress=partial(report, "embed")).vectors[retained]

    return Scene(
        model=model,
        request=request,
        names=images.classes,
        pictures=found.embeddings[retained],
        labels=found.labels[retained],
        told=images.where,
        again=again,
    )


def _noise_size(rows: Tensor, labels: Tensor, noise: Tensor) -> float:
    """Return the factor on the noise at which 80 % of the pictures are classified rightly, by bisection."""

    def known(size: float) -> bool:
        return float((margins(rows[labels] + size * noise, rows, labels) > 0).float().mean()) >= KNOWN

    low, high = 0.0, 1.0
    while known(high):  # Noise alone is right about once in k times, so this ends.
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if known(middle) else (low, middle)
    return low
