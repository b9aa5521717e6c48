"""K1: learn a linear classifier on embeddings from few images of every class."""

from typing import ClassVar, Final, Literal, TypeAlias, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import parts
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_images
from clip_unlearn.maths.logistic import fit_logistic
from clip_unlearn.maths.scores import ranks
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._few import Examples, embedded, in_parts, looking, of_both, open_examples
from clip_unlearn.probes.audit._layers import image_rows
from clip_unlearn.probes.audit._scene import Scene, open_scene

TURNS: Final = 200
"""Steps that a fit takes, about; each takes two products."""

TURN: Final = 1e7
"""Multiply-adds that would take as long as what a step takes beside them."""

WIDTH: Final = 512
"""What is thought of the width of an embedding where no last layer tells it."""

Layer: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Rows to learn from with their classes, rows to measure on with theirs: [m, D], [m], [n, D], [n]."""


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
        """Return about how much it takes: the images to learn from by each tower that differs, and the fits."""
        readout, width = before.readout("image"), WIDTH
        if readout is not None:
            width = max(before.weights[readout.weight].shape)
        taught = [min(size.support, shots * size.classes) for shots in self.shots]
        step = sum(2 * rows * min(rows, width) * size.classes + TURN for rows in taught)
        steps = TURNS * self.draws * (2 + size.image_towers)
        found = Work(images=size.image_towers * size.forgotten, multiplied=steps * step)
        return looking(size, most=4 * max(self.shots)) + found

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy for every k and layer, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if the support has too few images of a class to forget.
        """
        scene = open_scene(self.data, self.split, request)
        examples = open_examples(self.support, scene, shots=max(self.shots), most=4 * max(self.shots))
        was, now = of_both(lambda model: _layers(model, scene, examples), before, after)
        readings: list[Reading] = []
        for layer in [layer for layer in was if layer in now]:
            same = all(map(torch.equal, was[layer], now[layer]))
            for shots in self.shots:
                first = self._accuracy(was[layer], shots, scene)
                second = first if same else self._accuracy(now[layer], shots, scene)
                readings += parts(f"{shots}-shot probe accuracy, {layer}", first, second, "neither")
        return tuple(readings)

    def _accuracy(self, layer: Layer, shots: int, scene: Scene) -> Tensor:
        """Return, for every image, in which share of the draws it is named right: [n]."""
        learned, labels, tested, truth = layer
        known, found = Examples(images=scene.images, labels=labels), []
        for draw in range(self.draws):
            some = known.some(shots, scene.request.seed + draw)
            fitted = fit_logistic(learned[some], labels[some], len(scene.classes), penalty=self.penalty)
            found.append((ranks(fitted.scores(tested), truth) == 1).double())
        return torch.stack(found).mean(0)


def _layers(model: Model, scene: Scene, examples: Examples) -> dict[str, Layer]:
    """Return what a model holds of the images, by the layer."""
    own = embed_images(model, scene.images)
    rows, labels = embedded(model, examples)
    truth = torch.tensor([scene.images.labels[place] for place in own.kept])
    layers: dict[str, Layer] = {"embedding": (unit(rows), labels, unit(own.vectors.double()), truth)}
    if model.readout("image") is not None:
        learned = in_parts(examples, lambda images: image_rows(model, images, model)).rows
        layers["before the last layer"] = (learned, labels, image_rows(model, scene.images, model).rows, truth)
    return layers
