"""W8: where in the image tower the class can still be read, without an image of it to learn from.

Dimensions: n images of the forgotten, m images of other classes, p width of a block, d embedding width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, final

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
from clip_unlearn.maths.refit import refit
from clip_unlearn.maths.scores import cosines
from clip_unlearn.probes.audit._blocks import block_means, lens
from clip_unlearn.probes.audit._layers import image_embeddings
from clip_unlearn.probes.audit._scene import (
    Forms,
    Scene,
    Shown,
    attacked,
    drawn,
    hidden,
    hiding,
    open_scene,
    open_support,
)

SURER: Final = 0.95
"""Share of the images of other classes that an image has to be named more surely than."""


@final
class LayerLens(Audit):
    """Accuracy on images of the forgotten when they are read from every block of the image tower.

    In two forms, told apart by the model's own texts. Lens: the block's output in the place of the last block's, with
    the tower's own norm, pooling and last layer after it; for blocks of the last one's shape. Refit: the block's output
    averaged over places, h, and z = c + (h - b) M with M = argmin ||(H - b) M - (Z - c)||_F^2 + lambda ||M||_F^2 over
    images of other classes, H what the block gives them, Z the embeddings that the public original gives them, b and c
    the mean rows, lambda at several shares.

    An image counts where its own name comes first, and by a greater lead than the same name has over its best rival for
    95 % of the images of other classes: what lies far from all that the last layer knows is often given one name
    whatever it shows, and is not read. Where fewer than 5 % of the others are given the name, this changes nothing.

    The lens goes through the last layer as it is, so it finds what a later block hides and nothing that the last layer
    does; the refit finds both. From which block on the class is no longer read is where an edit took hold. The refit
    knows the public original by its embeddings of other classes, and has little power from the early blocks of any
    model, so heights count beside the control's and those of a model that never saw the class.
    """

    code: ClassVar = "W8"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shares: tuple[float, ...] = Field(default=(0.001, 0.1, 1.0), min_length=1)
    """Ridge penalties, as shares of the mean eigenvalue of (H - b)^T (H - b)."""

    images: int = Field(default=1000, ge=1)
    """Most images of other classes to learn from."""

    compared: int = Field(default=200, ge=1)
    """Most images of other classes that are looked at through the lens."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the support and the forgotten by each tower that differs, and the lens."""
        learned, others = (min(size.support, most) for most in (self.images, self.compared))
        images = size.image_towers * (learned + size.forgotten) + 2 * (size.forgotten + others)
        return hiding(size) + Work(images=images, support=learned)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy of every form and the worst one, of the edited model and of the control.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if there is no support, or the image tower has no blocks.
        """
        scene = open_scene(self.data, self.split, request)
        support = open_support(self.support, scene, self.images)
        looks = _look(before, scene, support)
        goals, control = image_embeddings(before, support, before).rows, hidden(before, request, "image")

        def forms(model: Model) -> Forms:
            own = looks if shares_features(model, before, "image") else _look(model, scene, support)
            return self._lenses(model, scene, support) | self._refits(own, scene, goals, scene.texts(model).cpu())

        return attacked("layer lens accuracy", scene, before, control, (forms(control), forms(after)))

    def _lenses(self, model: Model, scene: Scene, support: ImageSet) -> dict[str, Tensor]:
        some = support.take(drawn(range(len(support)), self.compared, scene.request.seed))
        own, others, texts = lens(model, scene.images), lens(model, some), scene.texts(model).cpu()
        return {f"lens, {block}": _read(scene, own[block], others[block].rows, texts) for block in own}

    def _refits(self, looks: "_Looks", scene: Scene, goals: Tensor, texts: Tensor) -> dict[str, Tensor]:
        found = {}
        for block, own in looks.own.items():
            learned = looks.learned[block].rows.double()
            for share in self.shares:
                rows, others = (_fitted(learned, goals, some, share) for some in (own.rows.double(), learned))
                found[f"refit, {block}, {share:g}"] = _read(scene, Shown(rows=rows, kept=own.kept), others, texts)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Looks:
    """What every block of a model gives, averaged over places."""

    own: Mapping[str, Shown]
    """Of images of the forgotten: [n, p] by block."""

    learned: Mapping[str, Shown]
    """Of images of other classes: [m, p] by block."""


def _look(model: Model, scene: Scene, support: ImageSet) -> _Looks:
    return _Looks(own=block_means(model, scene.images), learned=block_means(model, support))


def _fitted(learned: Tensor, goals: Tensor, own: Tensor, share: float) -> Tensor:
    """Return c + (h - b) M of rows h, fitted to goals of others: [m, p], [m, d], [n, p] -> [n, d]."""
    middle, goal = learned.mean(0), goals.mean(0)
    return goal + (own - middle) @ refit(learned - middle, goals - goal, share=share)


def _read(scene: Scene, own: Shown, others: Tensor, texts: Tensor) -> Tensor:
    """Return which images are named right and are told from those of other classes: [n, d], [m, d], [k, d] -> [n]."""
    labels = torch.tensor(own.labels(scene.images))
    leads, limits = _leads(own.rows.cpu(), texts), _leads(others.cpu(), texts).quantile(SURER, dim=0)
    return leads.gather(1, labels.unsqueeze(1)).squeeze(1) > limits[labels].clamp_min(0)


def _leads(rows: Tensor, texts: Tensor) -> Tensor:
    """Return how far the cosine with every name is above that with its best rival: [n, d], [k, d] -> [n, k]."""
    scores = cosines(rows, texts.to(rows))
    best, place = scores.topk(2, dim=1)
    first = torch.arange(len(texts)) == place[:, :1]
    return scores - torch.where(first, best[:, 1:], best[:, :1])
