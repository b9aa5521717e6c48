"""W2: undo the map that the recipe of the edit gives from the name."""

from dataclasses import replace
from typing import ClassVar, Final, Literal, final

import torch
from pydantic import Field

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.embedding_map import TOWERS, embedding_map
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.errors import UndefinedError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap, inverse_map
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene

NAME: Final = "recipe inversion accuracy"


@final
class RecipeInversion(Audit):
    """Accuracy on images of the forgotten when the map that the edit put after a tower is computed again and undone.

    Where an edit is a map of embeddings, z' = z P + c, method, settings and name give P and c again: an edit of the
    image side leaves the text embeddings that they follow from as they were, one of the text side needs those of the
    public original. The attacker then reads (z' - c) P^+, with the pseudo-inverse of P. That restores the original but
    for what P sends to nothing, so an edit with a small condition number hides the class and removes nothing of it.

    P is found here from both models by least squares, and is what the recipe gives up to rounding. Beside the
    accuracy stands the condition number of P: the largest of its singular values over the smallest. The control is the
    original with the names taken out of its last image layer.
    """

    code: ClassVar = "W2"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    tolerances: tuple[float, ...] = Field(default=(1e-6, 1e-3), min_length=1)
    """Shares of the largest singular value under which one counts as nothing."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the forgotten once for every tolerance, of edit and control."""
        return hiding(size) + Work(images=2 * len(self.tolerances) * size.forgotten)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy with the maps undone, the worst one, and the condition number of each map.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if the edit is no map of embeddings in either tower.
        """
        maps = _maps(before, after)
        if not maps:
            raise UndefinedError("the edit is no map of embeddings, so there is no map to compute again from the name")
        scene = open_scene(self.data, self.split, request)
        control = hidden(before, request, "image")
        found = self._forms(control, _maps(before, control), scene), self._forms(after, maps, scene)
        return (*attacked(NAME, scene, before, control, found), *(_condition(*one) for one in maps.items()))

    def _forms(self, model: Model, maps: dict[TowerName, AffineMap], scene: Scene) -> Forms:
        return {f"undone, {share:g}": scene.hits(_undone(model, maps, share)) for share in self.tolerances}


def _maps(before: Model, after: Model) -> dict[TowerName, AffineMap]:
    """Return the map of embeddings that an edit amounts to, for every tower that it changes by one and no more."""
    found: dict[TowerName, AffineMap] = {}
    own_outputs = {tower: one for tower, one in after.outputs.items() if one is not before.outputs.get(tower)}
    if before.outputs and own_outputs:
        raise UndefinedError("both models map their outputs, so the map of the edit alone is not known")
    patch = replace(Patch.between(before, after.replace(outputs=before.outputs)), outputs=own_outputs)
    for tower in TOWERS:
        try:
            own = embedding_map(patch, before, tower)
        except UnsupportedError:
            continue  # more than a map: nothing follows from the name alone
        if own is not None and own.rank:
            found[tower] = own
    return found


def _undone(model: Model, maps: dict[TowerName, AffineMap], share: float) -> Model:
    outputs = dict(model.outputs)
    for tower, one in maps.items():
        back = inverse_map(one, share)
        outputs[tower] = outputs[tower].then(back) if tower in outputs else back
    return model.replace(outputs=outputs)


def _condition(tower: TowerName, one: AffineMap) -> Reading:
    width = len(one.down)
    sizes = torch.linalg.svdvals(torch.eye(width, dtype=torch.float64) + one.down.double() @ one.up.double())
    value = float(sizes[0] / sizes[-1].clamp_min(torch.finfo(torch.float64).tiny))
    fields = {"value": value, "low": value, "high": value, "count": width}
    return Reading(name="condition number", better="neither", of=f"the {tower} map", interval="exact", **fields)
