"""W6: store the weights in fewer bits, or without their smallest entries."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.maths.rounding import pruned, quantised, steps_of
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene
from clip_unlearn.probes.audit._weights import changed_weights, rewritten


@final
class Rounding(Audit):
    """Accuracy on images of the forgotten when the edited weights are rounded or pruned, as deployment does.

    An edit by small steps may fall between the steps of a coarser number format and be gone with them. Every matrix of
    weights is rounded to whole multiples of a step, one step for each row, in 8, 4 and 3 bits; cast to bfloat16 and to
    float16; and stripped of its 10, 30 and 50 % smallest entries. A model that a form ruins recognises nothing, which
    is no protection: what counts is that none of them brings the class back.

    The largest change of a weight in half steps of 8 and 4 bits says beforehand whether an edit could be rounded away:
    under 1 it could. The control is the original with the names taken out of its last image layer; that is a large
    change, so rounding has no power to undo it.
    """

    code: ClassVar = "W6"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    images: int = Field(default=100, ge=1)
    """Most images of the forgotten; every form is a pass of them."""

    bits: tuple[int, ...] = (8, 4, 3)
    """Bits of the whole numbers that weights are rounded to."""

    prune: tuple[float, ...] = (0.1, 0.3, 0.5)
    """Shares of the smallest entries of every matrix that are dropped."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: weights, the forgotten and all names in every form, of edit and control."""
        forms = 2 * (len(self.bits) + len(self.prune) + 2)
        images, names = min(size.forgotten, self.images), size.classes * size.templates
        weights = sum(weight.numel() for weight in before.weights.values())
        return hiding(size) + Work(images=forms * images, sentences=forms * names, rewritten=forms * weights)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy of every form, the worst one, and the largest change in half steps.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        scene = open_scene(self.data, self.split, request, count=self.images)
        control = hidden(before, request, "image")
        found = self._forms(control, scene), self._forms(after, scene)
        steps = [_in_half_steps(before, after, bits) for bits in self.bits]
        return (*attacked("rounding accuracy", scene, before, control, found), *filter(None, steps))

    def _forms(self, model: Model, scene: Scene) -> Forms:
        changes: dict[str, Callable[[Tensor], Tensor]] = {
            **{f"{bits} bits": partial(quantised, bits=bits) for bits in self.bits},
            "bfloat16": lambda weight: weight.to(torch.bfloat16).to(weight.dtype),
            "float16": lambda weight: weight.to(torch.float16).to(weight.dtype),
            **{f"without {share:.0%} of the entries": partial(pruned, share=share) for share in self.prune},
        }
        return {form: scene.hits(rewritten(model, change)) for form, change in changes.items()}


def _in_half_steps(before: Model, after: Model, bits: int) -> Reading | None:
    sizes = []
    for name in changed_weights(before, after):
        if before.weights[name].ndim > 1:
            change = (after.weights[name].detach().float() - before.weights[name].detach().float()).flatten(1).abs()
            sizes.append(float((change.amax(1) / (steps_of(before.weights[name], bits) / 2)).max()))
    if not sizes:
        return None
    fields = {"value": max(sizes), "low": max(sizes), "high": max(sizes), "count": len(sizes)}
    return Reading(name="largest change in half steps", better="neither", of=f"{bits} bits", interval="exact", **fields)
