"""W1: fit the last layer of the image tower again, without an image of what was forgotten."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import class_texts
from clip_unlearn.data.images import ImageSet
from clip_unlearn.maths.refit import refit
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._layers import image_embeddings, image_rows, last_layer, refitting
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene, open_support

FORMS = 3
"""Forms of the fit, each at every share."""


@final
class ImageRefit(Audit):
    """Accuracy on images of the forgotten when the image tower's last layer is fitted again on other classes.

    M = argmin ||H M - T||_F^2 + lambda ||M - M_0||_F^2 over images of other classes, H what the tower holds before its
    last layer; then z = h M for images of the forgotten, told apart by the model's own texts. In several forms: T the
    text embeddings of the class names, or the embeddings that the public original gives the same images; M_0 nothing,
    or the layer as it is; lambda at several shares. What the edit did to the last layer does not enter where M_0 is
    nothing, so every edit of that layer alone leaves this attack what it is on the original.

    The control is the original with the names taken out of its last image layer. The plain form, from class names and
    from nothing, has little power on photographs: few classes do not span what a new one needs.
    """

    code: ClassVar = "W1"
    mechanism: ClassVar = "image head"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shares: tuple[float, ...] = Field(default=(0.001, 0.1, 1.0), min_length=1)
    """Ridge penalties, as shares of the mean eigenvalue of H^T H."""

    images: int = Field(default=1000, ge=1)
    """Most images of other classes to learn from."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the support and the forgotten, by each tower that differs."""
        learned = min(size.support, self.images) + size.forgotten
        multiplied = 2 * FORMS * len(self.shares) * refitting(before, "image", learned)
        return hiding(size) + Work(support=size.image_towers * learned, multiplied=multiplied)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy of every form and the worst one, of the edited model and of the control.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if there is no support, or the image tower does not end in a linear layer.
        """
        scene = open_scene(self.data, self.split, request)
        support = open_support(self.support, scene, self.images)
        goals, control = image_embeddings(before, support, before).rows, hidden(before, request, "image")
        found = (
            self._forms(control, before, scene, support, goals),
            self._forms(after, before, scene, support, goals),
        )
        return attacked("image refit accuracy", scene, before, control, found)

    def _forms(self, model: Model, before: Model, scene: Scene, support: ImageSet, goals: Tensor) -> Forms:
        own, learned = image_rows(model, scene.images, before), image_rows(model, support, before)
        names = unit(class_texts(model, scene.request, support.classes).cpu())
        texts, layer = scene.texts(model).cpu(), last_layer(model, "image")
        tried = (
            ("to class names", names[learned.labels(support)], None),
            ("to class names, from its layer", names[learned.labels(support)], layer),
            ("to the original's embeddings", goals, None),
        )
        return {
            f"{form}, {share:g}": scene.right(
                own.rows @ refit(learned.rows, targets, share=share, start=start), texts, own.kept
            )
            for form, targets, start in tried
            for share in self.shares
        }
