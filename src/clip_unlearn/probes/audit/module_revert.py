"""W12: put back one original module at a time."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.embedding_map import TOWERS, used
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import share
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.audit._scene import Forms, Scene, attacked, hidden, hiding, open_scene
from clip_unlearn.probes.audit._weights import by_module, changed_weights

NAME = "module revert accuracy"


@final
class ModuleRevert(Audit):
    """Accuracy on images of the forgotten when one module of the edited model is that of the public original again.

    A module is a block of a tower, a projection, an embedding table, or an output map; those that the edit changed are
    put back one by one, all others stay edited. The worst one counts: where one module alone brings the class back,
    the edit sits in it. Each whole tower is put back too, and said beside it: of an edit of one tower that is the
    original itself.

    The control is the original with the names taken out of its last image layer, which putting that back undoes.
    """

    code: ClassVar = "W12"
    mechanism: ClassVar = "revert"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    images: int = Field(default=100, ge=1)
    """Most images of the forgotten; every module is a pass of them."""

    each: Literal["module", "tensor"] = "module"
    """What is put back at a time: a module, or a single tensor."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the forgotten and all names, for every module put back."""
        changed = changed_weights(before, after)
        groups = by_module(changed) if self.each == "module" else {name: (name,) for name in changed}
        images = 4 + sum(bool(used(before, "image", names)) for names in groups.values())
        texts = sum(bool(used(before, "text", names)) for names in groups.values())
        shown = min(size.forgotten, self.images)
        names = texts * size.classes * size.templates
        return hiding(size) + Work(images=images * shown, sentences=names)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy with every module put back, the worst one, and that with each tower put back.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if the edit changed nothing.
        """
        scene = open_scene(self.data, self.split, request, count=self.images)
        control = hidden(before, request, "image")
        forms = self._reverted(before, after, scene)
        if not forms:
            raise UndefinedError("nothing was changed, so there is nothing to put back")
        found = self._reverted(before, control, scene), forms
        towers = {tower: _with_tower(before, after, tower) for tower in TOWERS}
        return (
            *attacked(NAME, scene, before, control, found),
            *(share(NAME, scene.hits(model), "low", of=f"the whole {tower} tower") for tower, model in towers.items()),
        )

    def _reverted(self, before: Model, after: Model, scene: Scene) -> Forms:
        changed = changed_weights(before, after)
        groups = by_module(changed) if self.each == "module" else {name: (name,) for name in changed}
        shown, texts = scene.shown(after), scene.texts(after)
        found: dict[str, Tensor] = {}
        for module, names in groups.items():
            model = after.replace({name: before.weights[name] for name in names})
            images = scene.shown(model) if used(before, "image", names) else shown
            rows = scene.texts(model) if used(before, "text", names) else texts
            found[module] = scene.right(images.rows, rows, images.kept)
        for tower in after.outputs:
            if after.outputs[tower] is not before.outputs.get(tower):
                found[f"output:{tower}"] = scene.hits(_with_output(before, after, tower))
        return found


def _with_output(before: Model, after: Model, tower: TowerName) -> Model:
    kept = {name: output for name, output in after.outputs.items() if name != tower}
    return after.replace(outputs=kept | ({tower: before.outputs[tower]} if tower in before.outputs else {}))


def _with_tower(before: Model, after: Model, tower: TowerName) -> Model:
    names = used(before, tower, changed_weights(before, after))
    return _with_output(before, after, tower).replace({name: before.weights[name] for name in names})
