"""K2: put the mean of few images in the place of the forgotten name."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import parts
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_images
from clip_unlearn.maths.scores import class_means
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._few import Examples, embedded, looking, of_both, open_examples
from clip_unlearn.probes.audit._scene import Scene, open_scene


@final
class Prototype(Audit):
    """Accuracy on images of the forgotten when k images of it stand in the place of its name.

    The row of a class to forget is the mean unit embedding of k of its images, less the gap between images and texts:
    the mean over the other classes of mean unit image embedding minus unit text row. Other classes keep their names.
    The mean over several draws of the k images. As with every attack that is shown the class, only what is above a
    model that never saw it counts.
    """

    code: ClassVar = "K2"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shots: tuple[int, ...] = Field(default=(1, 5), min_length=1)
    """The k: images of the class that stand for its name."""

    draws: int = Field(default=3, ge=1)
    """How often they are drawn."""

    examples: int = Field(default=20, ge=1)
    """Images of each other class that the gap is measured on."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the images to learn from by both models."""
        return looking(size, most=max(self.examples, *self.shots))

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy for every k, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if the support has too few images of a class to forget, or none of another.
        """
        scene = open_scene(self.data, self.split, request)
        known = open_examples(self.support, scene, shots=max(self.shots), most=max(self.examples, *self.shots))
        was, now = of_both(lambda model: self._found(model, scene, known), before, after)
        return tuple(
            reading
            for shots in self.shots
            for reading in parts(f"{shots}-shot prototype accuracy", was[shots], now[shots], "neither")
        )

    def _found(self, model: Model, scene: Scene, examples: Examples) -> dict[int, Tensor]:
        own, texts = embed_images(model, scene.images), unit(scene.texts(model).double().cpu())
        rows, labels = embedded(model, examples)
        rows, gone = unit(rows), [scene.images.class_index(concept.name) for concept in scene.request.forget]
        others = sorted(set(labels.tolist()) - set(gone))
        gap = (class_means(rows, labels, len(scene.classes))[others] - texts[others]).mean(0)
        found = {}
        for shots in self.shots:
            hits = []
            for draw in range(self.draws):
                some = Examples(images=examples.images, labels=labels).some(shots, scene.request.seed + draw)
                shown = texts.clone()
                shown[gone] = class_means(rows[some], labels[some], len(scene.classes))[gone] - gap
                hits.append(scene.right(own.vectors, shown, own.kept).double())
            found[shots] = torch.stack(hits).mean(0)
        return found
