"""K1: learn a linear classifier on embeddings from few images of every class."""

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
from clip_unlearn.maths.logistic import fit_logistic
from clip_unlearn.maths.scores import ranks
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._few import Examples, embedded, in_parts, looking, of_both, open_examples
from clip_unlearn.probes.audit._layers import image_rows
from clip_unlearn.probes.audit._scene import Scene, open_scene


@final
class LinearProbe(Audit):
    """Accuracy on images of the forgotten of a linear classifier that learned from k images of every class.

    L2-logistic regression on standardised rows, on the embedding and, where the image tower ends in a linear layer, on
    what it holds before it; the mean over several draws of the k images. These images teach the class: a model that
    never saw it learns it too, so neither direction is the wished one, and only what is above such a reference counts.
    """

    code: ClassVar = "K1"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shots: tuple[int, ...] = Field(default=(1, 5, 10), min_length=1)
    """The k: images of every class to learn from."""

    draws: int = Field(default=3, ge=1)
    """How often the images are drawn."""

    penalty: float = Field(default=1.0, gt=0)
    """Weight of half the squared norm of the classifier."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the images to learn from by both models, embedding and layer below."""
        return looking(size, most=4 * max(self.shots), passes=4) + Work(images=2 * size.forgotten)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy for every k and layer, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if the support has too few images of a class to forget.
        """
        scene = open_scene(self.data, self.split, request)
        examples = open_examples(self.support, scene, shots=max(self.shots), most=4 * max(self.shots))
        was, now = of_both(lambda model: self._found(model, scene, examples), before, after)
        return tuple(
            reading
            for layer in was
            if layer in now
            for shots in self.shots
            for reading in parts(
                f"{shots}-shot probe accuracy, {layer}", was[layer][shots], now[layer][shots], "neither"
            )
        )

    def _found(self, model: Model, scene: Scene, examples: Examples) -> dict[str, dict[int, Tensor]]:
        own = embed_images(model, scene.images)
        rows, labels = embedded(model, examples)
        truth = torch.tensor([scene.images.labels[place] for place in own.kept])
        layers = {"embedding": (unit(rows), unit(own.vectors.double()))}
        if model.readout("image") is not None:
            layers["before the last layer"] = (
                in_parts(examples, lambda images: image_rows(model, images, model)).rows,
                image_rows(model, scene.images, model).rows,
            )
        return {
            layer: {shots: self._accuracy(learned, labels, tested, truth, shots, scene) for shots in self.shots}
            for layer, (learned, tested) in layers.items()
        }

    def _accuracy(
        self, learned: Tensor, labels: Tensor, tested: Tensor, truth: Tensor, shots: int, scene: Scene
    ) -> Tensor:
        """Return, for every image, in which share of the draws it is named right: [n]."""
        found = []
        known = Examples(images=scene.images, labels=labels)
        for draw in range(self.draws):
            some = known.some(shots, scene.request.seed + draw)
            fitted = fit_logistic(learned[some], labels[some], len(scene.classes), penalty=self.penalty)
            found.append((ranks(fitted.scores(tested), truth) == 1).double())
        return torch.stack(found).mean(0)
