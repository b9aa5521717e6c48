"""W11: fit the last layer of the text tower again, without a word of what was forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.embedding_map import shares_features
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.refit import refit
from clip_unlearn.maths.scores import class_means
from clip_unlearn.maths.vectors import mean_unit_rows, unit
from clip_unlearn.probes.audit._layers import image_embeddings, image_rows, last_layer, read_texts, refitting, text_rows
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene, open_support

FORMS = 4
"""Forms of the fit of the text layer, each at every share; one of them fits the image layer too."""


@final
class TextRefit(Audit):
    """Accuracy on images of the forgotten when the text tower's last layer is fitted again on other names.

    M = argmin ||H M - T||_F^2 + lambda ||M - M_0||_F^2 over sentences of other classes and of background names, H what
    the tower holds before its last layer; then the class rows are made of h M, the forgotten name's too. In several
    forms: T the mean image embedding of each class, over images of other classes, or the embeddings that the public
    original gives the same sentences; M_0 nothing, or the layer as it is; lambda at several shares. A last form fits
    both towers' last layers to the original's embeddings.

    The control is the original with the names taken out of the last layers of both towers.
    """

    code: ClassVar = "W11"
    mechanism: ClassVar = "text head"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shares: tuple[float, ...] = Field(default=(0.001, 0.1, 1.0), min_length=1)
    """Ridge penalties, as shares of the mean eigenvalue of H^T H."""

    images: int = Field(default=1000, ge=1)
    """Most images of other classes to learn from."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: as of `image_refit`, and all names by each text tower that differs."""
        learned = min(size.support, self.images) + size.forgotten
        names = (size.text_towers - 1) * size.background * size.templates
        named = (size.classes + size.background) * size.templates
        fits = refitting(before, "image", learned) + FORMS * refitting(before, "text", named)
        multiplied = 2 * len(self.shares) * fits
        return hiding(size) + Work(support=size.image_towers * learned, names=names, multiplied=multiplied)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy of every form and the worst one, of the edited model and of the control.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if there is no support or no other name, or a tower does not end in a linear layer.
        """
        scene = open_scene(self.data, self.split, request)
        support = open_support(self.support, scene, self.images)
        names = tuple(dict.fromkeys((*request.retain, *request.background)))
        if not names:
            raise UndefinedError("it learns from other names, and there is no other name to retain and no background")
        known = _Known(before=before, scene=scene, support=support, sentences=request.sentences(names))
        control = hidden(hidden(before, request, "image"), request, "text")
        found = self._forms(control, known), self._forms(after, known)
        return attacked("text refit accuracy", scene, before, control, found)

    def _forms(self, model: Model, known: "_Known") -> Forms:
        scene, count = known.scene, len(known.scene.request.templates)
        own, images = (image_embeddings(model, one, known.before) for one in (scene.images, known.support))
        asked = text_rows(model, scene.request.sentences(scene.classes))
        shown = sorted(set(known.support.labels))
        means = class_means(unit(images.rows), torch.tensor(images.labels(known.support)), len(known.support.classes))[
            shown
        ]
        classes = text_rows(model, scene.request.sentences([known.support.classes[label] for label in shown]))
        others, layer = known.sentence_rows(model), last_layer(model, "text")
        tried = (
            ("to images", classes, means.repeat_interleave(count, 0), None),
            ("to images, from its layer", classes, means.repeat_interleave(count, 0), layer),
            ("to the original's embeddings", others, known.texts, None),
        )
        found = {}
        for form, features, targets, start in tried:
            for share in self.shares:
                rows = mean_unit_rows(asked @ refit(features, targets, share=share, start=start), count)
                found[f"{form}, {share:g}"] = scene.right(own.rows, rows, own.kept)
        return {**found, **self._both(model, known, asked, others)}

    def _both(self, model: Model, known: "_Known", asked: Tensor, others: Tensor) -> Forms:
        """Return the forms in which the image tower's last layer is fitted to the original's embeddings too."""
        scene, count = known.scene, len(known.scene.request.templates)
        own, learned = image_rows(model, scene.images, known.before), image_rows(model, known.support, known.before)
        found = {}
        for share in self.shares:
            rows = mean_unit_rows(asked @ refit(others, known.texts, share=share), count)
            images = own.rows @ refit(learned.rows, known.images, share=share)
            found[f"both layers to the original's embeddings, {share:g}"] = scene.right(images, rows, own.kept)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """What the public original gives for images and names that are not to be forgotten."""

    before: Model
    scene: Scene
    support: ImageSet
    sentences: Sequence[str]

    def sentence_rows(self, model: Model) -> Tensor:
        """Return what a model's text tower holds of the sentences before its last layer: [n, D]."""
        return self.rows if shares_features(model, self.before, "text") else text_rows(model, self.sentences)

    @cached_property
    def rows(self) -> Tensor:
        """Return the same of the public original: [n, D]."""
        return text_rows(self.before, self.sentences)

    @cached_property
    def texts(self) -> Tensor:
        """Return its embeddings of the sentences: [n, d]."""
        return read_texts(self.before, self.rows)

    @cached_property
    def images(self) -> Tensor:
        """Return its embeddings of the images: [m, d]."""
        return image_embeddings(self.before, self.support, self.before).rows
