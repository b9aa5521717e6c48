"""W7: go back from the edited weights towards the original ones."""

from typing import ClassVar, Final, Literal, final

import torch
from pydantic import Field

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import share
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene
from clip_unlearn.probes.audit._weights import changed_weights

NAME: Final = "interpolation accuracy"

NEAR: Final = 0.2
"""Share of the way back up to which the class may not return."""


@final
class Interpolation(Audit):
    """Accuracy on images of the forgotten on the way from the edited weights to the original ones.

    W = (1 - alpha) W_edited + alpha W_original, and output maps scaled by 1 - alpha. At alpha = 1 the class is back, by
    construction; where it returns tells how close to the edge of it the edit stopped. The worst form up to alpha = 0.2
    counts; those beyond are said beside it. The control is the original with the names taken out of its last image
    layer.
    """

    code: ClassVar = "W7"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    images: int = Field(default=100, ge=1)
    """Most images of the forgotten; every alpha is a pass of them."""

    alphas: tuple[float, ...] = Field(default=(0.1, 0.2, 0.4, 0.6, 0.8), min_length=1)
    """Shares of the way back, in (0, 1); at least one up to 0.2."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the forgotten and all names at every alpha, of edit and control."""
        models = len(self.alphas) + sum(alpha <= NEAR for alpha in self.alphas) + 2
        names = (size.text_towers - 1) * len(self.alphas) * size.classes * size.templates
        shown = Work(images=models * min(size.forgotten, self.images), sentences=names)
        return hiding(size) + shown

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy at every alpha, and the worst one up to 0.2.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if both models map their outputs, so that there is no way between the maps.
        """
        scene = open_scene(self.data, self.split, request, count=self.images)
        control = hidden(before, request, "image")
        near = self._forms(before, control, scene, near=True), self._forms(before, after, scene, near=True)
        beyond = self._forms(before, after, scene, near=False)
        return (
            *attacked(NAME, scene, before, control, near),
            *(share(NAME, right, "low", of=form) for form, right in beyond.items()),
        )

    def _forms(self, before: Model, after: Model, scene: Scene, *, near: bool) -> Forms:
        chosen = [alpha for alpha in self.alphas if (alpha <= NEAR) == near]
        return {f"{alpha:.0%} of the way back": scene.hits(between(before, after, alpha)) for alpha in chosen}


def between(before: Model, after: Model, alpha: float) -> Model:
    """Return the model that is a share alpha of the way back from `after` to `before`.

    Raises:
        UndefinedError: if both map the outputs of a tower, and not alike.
    """
    weights = {
        name: torch.lerp(after.weights[name].detach().float(), before.weights[name].detach().float(), alpha).to(
            after.weights[name].dtype
        )
        for name in changed_weights(before, after)
        if after.weights[name].is_floating_point()
    }
    outputs: dict[TowerName, AffineMap] = {}
    for tower, output in after.outputs.items():
        if tower not in before.outputs:
            outputs[tower] = output.scaled(1 - alpha)
        elif output is before.outputs[tower]:
            outputs[tower] = output
        else:
            raise UndefinedError(f"both models map the outputs of the {tower} tower, and differently")
    return after.replace(weights, outputs)
