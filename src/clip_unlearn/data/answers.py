"""What a model answers on labelled images: embeddings, classifier rows, ranks. n images, k names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import report
from clip_unlearn.core.request import Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import Split, open_data
from clip_unlearn.data.splits import check_disjoint
from clip_unlearn.errors import DataError
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.maths.vectors import unit


def measured_images(where: str, split: Split, request: Request) -> ImageSet:
    """Return the labelled images to measure on.

    Raises:
        DataError: if they have no labels, or share an image with the evidence of the request.
    """
    images = open_data(where, split=split)
    if not images.classes:
        raise DataError(f"{where} has no class labels to measure zero-shot accuracy with. Give labelled images.")
    if request.evidence is not None:
        check_disjoint(evidence=open_data(request.evidence.where), measured=images)
    return images


@torch.no_grad()
def class_texts(model: Model, request: Request, names: Sequence[str]) -> Tensor:
    """Return one zero-shot classifier row per name: the mean of its unit embeddings over the templates. [k, d]."""
    embeddings = unit(model.texts(request.sentences(names)).float())
    return embeddings.view(len(names), len(request.templates), -1).mean(1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Images with labels, and how one model scores every class on each of them."""

    embeddings: Tensor
    """Image embeddings [n, d]."""

    texts: Tensor
    """Classifier rows [k, d]."""

    labels: Tensor
    """True classes [n]."""

    kept: tuple[int, ...]
    """Which images of the set these are: those that could be read [n]."""

    @cached_property
    def ranks(self) -> Tensor:
        """Return the place of the true class on every image, 1 = first; ties count against it. [n]."""
        return ranks(cosines(self.embeddings, self.texts), self.labels)

    @cached_property
    def predictions(self) -> Tensor:
        """Return the class that scores highest on every image. [n]."""
        return cosines(self.embeddings, self.texts).argmax(dim=1)

    def renamed(self, index: int, text: Tensor) -> "Answers":
        """Return the answers when the class `index` is asked for by other words, whose row is given. [d]."""
        texts = self.texts.clone()
        texts[index] = text
        return self.asked(texts)

    def asked(self, texts: Tensor) -> "Answers":
        """Return the answers when the classes are asked for by other rows. [k, d]."""
        return replace(self, texts=texts)


def answers(model: Model, images: ImageSet, request: Request) -> Answers:
    """Return the answers of a model on all readable images."""
    embedded = embed_images(model, images, progress=partial(report, "embed"))
    labels = torch.tensor([images.labels[index] for index in embedded.kept])
    texts = class_texts(model, request, images.classes).cpu()
    return Answers(embeddings=embedded.vectors, texts=texts, labels=labels, kept=embedded.kept)


def forget_indices(images: ImageSet, request: Request) -> list[int]:
    """Return the class index of every concept to forget.

    Raises:
        DataError: if the data has no such class, with the nearest one.
    """
    return [images.class_index(concept.name) for concept in request.forget]


def neighbour_indices(texts: Tensor, forget: Sequence[int], count: int) -> list[int]:
    """Return the `count` classes nearest by text to each class to forget, without those classes themselves."""
    similar = cosines(texts[list(forget)], texts)
    similar[:, list(forget)] = -torch.inf
    nearest = similar.topk(min(count, texts.shape[0] - len(forget)), dim=1).indices
    return sorted(set(nearest.flatten().tolist()))
