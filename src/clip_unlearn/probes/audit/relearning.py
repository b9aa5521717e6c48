"""K5: how soon the last image layer learns the forgotten again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from clip_unlearn.core.anamnesis import RELEARNED
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import means, shares
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._few import Examples, in_parts, looking, of_both, open_examples
from clip_unlearn.probes.audit._layers import image_rows, last_layer
from clip_unlearn.probes.audit._scene import Scene, open_scene

WAYS = 3
"""Products with the rows in a step: there, and back to the matrix; one for what they are made in and out of."""


@final
class Relearning(Audit):
    """Steps of training the last image layer until the forgotten is named nearly as often as by the original.

    Adam on the matrix of that layer alone, on k images of every class that is told apart, those to forget among them:
    cross-entropy of the cosines with the model's own texts, at its logit scale. Counted is the first step after which
    the images to measure are named right in 90 % of the original's share; one more than all steps where that never
    happens. At several rates, of which the fastest counts; the mean over several draws of the k images.

    The images teach the class, so a model that never saw it gets there too: few steps show something only where such a
    model needs more (its steps over theirs is the anamnesis index, `core.anamnesis`).

    Source: relearn time, arXiv 2201.05629, on the last layer and features that are computed once.
    """

    code: ClassVar = "K5"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shots: int = Field(default=5, ge=1)
    """Images of every class to learn from."""

    draws: int = Field(default=5, ge=1)
    """How often the images are drawn."""

    rates: tuple[float, ...] = Field(default=(0.003, 0.01, 0.03), min_length=1)
    """Learning rates, as shares of the size of the layer."""

    steps: int = Field(default=50, ge=1)
    """Most steps at each rate."""

    share: float = Field(default=0.9, gt=0, le=1)
    """Part of the original's accuracy at which the class counts as learned again."""

    target: float | None = Field(default=None, gt=0, le=1)
    """Share of images named right at which it does, in the place of a part of the original's."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the images to learn from, and a quarter of all steps."""
        known = looking(size, most=4 * self.shots)
        steps = self.draws * len(self.rates) * self.steps / 4
        taught = min(size.support, size.classes * self.shots)
        multiplied = steps * WAYS * taught * last_layer(before, "image").numel() if before.readout("image") else 0
        images = (size.image_towers + 1) * size.forgotten
        return known + Work(images=images, names=size.names, multiplied=multiplied)

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the steps that both models need with their paired change, and in how many draws they are enough.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if the support has too few images of a class to forget, the image tower does not end in a
                linear layer, or the original recognises none of the images.
        """
        scene = open_scene(self.data, self.split, request)
        examples = open_examples(self.support, scene, shots=self.shots, most=4 * self.shots)
        wanted = self.target or self.share * float(scene.hits(before).double().mean())
        if wanted == 0:
            raise UndefinedError("the original recognises none of the images, so there is nothing to learn again")
        was, now = of_both(lambda model: self._steps(model, before, scene, examples, wanted), before, after)
        name, reached = f"{self.shots}-shot relearning steps", [steps <= self.steps for steps in (was, now)]
        return (*means(name, was, now, "high"), *shares(f"{RELEARNED}{name}", reached[0], reached[1], "neither"))

    def _steps(self, model: Model, before: Model, scene: Scene, examples: Examples, wanted: float) -> Tensor:
        """Return the steps of the fastest rate for every draw: [draws]."""
        own, learned = (
            image_rows(model, scene.images, before),
            in_parts(examples, lambda images: image_rows(model, images, before)),
        )
        known = Examples(images=examples.images, labels=examples.labels[list(learned.kept)])
        start, texts = last_layer(model, "image").float(), unit(scene.texts(model).cpu())

        def reached(matrix: Tensor) -> bool:
            return float(scene.right(own.rows.float() @ matrix, texts, own.kept).double().mean()) >= wanted

        found = []
        for draw in range(self.draws):
            some = known.some(self.shots, scene.request.seed + draw)
            lesson = _Lesson(
                rows=learned.rows[some].float(), labels=known.labels[some], texts=texts, scale=model.logit_scale
            )
            found.append(min(self._first(lesson, start, rate, reached) for rate in self.rates))
        return torch.tensor(found, dtype=torch.float64)

    def _first(self, lesson: "_Lesson", start: Tensor, rate: float, reached: Callable[[Tensor], bool]) -> int:
        """Return the first step after which the class is named again, 0 where it is named without any."""
        size = float(start.square().mean().sqrt())
        change = torch.zeros_like(start, requires_grad=True)
        optimizer = torch.optim.Adam([change], lr=rate)
        for step in range(self.steps + 1):
            matrix = start + size * change
            if reached(matrix.detach()):
                return step
            optimizer.zero_grad()
            lesson.loss(matrix).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return self.steps + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesson:
    """Few images of every class as the last layer sees them. m images, k classes, D and d widths."""

    rows: Tensor
    """Features [m, D]."""

    labels: Tensor
    """Classes [m]."""

    texts: Tensor
    """Unit classifier rows [k, d]."""

    scale: float

    def loss(self, matrix: Tensor) -> Tensor:
        """Return the cross-entropy of choosing the right class with a last layer [D, d]."""
        return cross_entropy(self.scale * unit(self.rows @ matrix) @ self.texts.T, self.labels)
