"""Methods that each break one law and keep all others: the proof that the laws can fail."""

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

import laws
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.methods.project import Project


def honest(model: Model, request: Request, *, strength: float = 1.0) -> Patch:
    """Return what an honest method returns."""
    return Project(strength=strength).forget(model, request)


def of_kind(kind: type[Patch], patch: Patch) -> Patch:
    """Return the same patch as one of another kind."""
    return kind(deltas=patch.deltas, outputs=patch.outputs)


class EditsInPlace(Method):
    """Scribbles on the image tower of the model it was given."""

    @torch.no_grad()
    def forget(self, model: Model, request: Request) -> Patch:
        model.weights[model.adapter.image.readout.weight].add_(1e-3)
        return honest(model, request)


class ThrowsDice(Method):
    """Draws from the random state of the process instead of the request's seed."""

    def forget(self, model: Model, request: Request) -> Patch:
        return honest(model, request, strength=float(torch.rand(())) / 2 + 0.25)


class RoundingPatch(Patch):
    def save_pretrained(self, where: str | Path, *, force: bool = False) -> None:
        rounded = {
            tower: AffineMap(down=output.down.bfloat16().float(), up=output.up)
            for tower, output in self.outputs.items()
        }
        Patch(outputs=rounded).save_pretrained(where, force=force)


class SavesRounded(Method):
    """Saves the numbers of its patch in half precision."""

    def forget(self, model: Model, request: Request) -> Patch:
        return of_kind(RoundingPatch, honest(model, request))


class CopyingPatch(Patch):
    def apply(self, model: Model) -> Model:
        edited = of_kind(Patch, self).apply(model)
        return edited.replace({name: weight.detach().clone() for name, weight in edited.weights.items()})


class CopiesEverything(Method):
    """Copies the whole model for an edit of one layer."""

    def forget(self, model: Model, request: Request) -> Patch:
        return of_kind(CopyingPatch, honest(model, request))


class MisfoldingPatch(Patch):
    def folded(self, model: Model) -> Patch:
        return of_kind(Patch, self).folded(model).scaled(0.9)


class FoldsWrongly(Method):
    """Folds its map into a weight with a factor missing."""

    def forget(self, model: Model, request: Request) -> Patch:
        return of_kind(MisfoldingPatch, honest(model, request))


class HidesASetting(Method):
    """Has a setting that its recipe does not tell."""

    strength: float = Field(default=1.0, gt=0, le=1, exclude=True)

    def forget(self, model: Model, request: Request) -> Patch:
        return honest(model, request, strength=self.strength)


class DoesNothing(Method):
    """Says it has forgotten."""

    def forget(self, model: Model, request: Request) -> Patch:
        return Patch()


class DestroysEverything(Method):
    """Forgets the class, and everything else with it."""

    def forget(self, model: Model, request: Request) -> Patch:
        width = torch.eye(model.texts(["a mug"]).shape[1])
        return Patch(outputs={"image": AffineMap(down=width, up=-width)})


class NeedsImagesSecretly(Method):
    """Declares that texts are enough, and fails without images."""

    def forget(self, model: Model, request: Request) -> Patch:
        if request.evidence is None:
            raise RuntimeError("no images")
        return honest(model, request)


class RaisesBareErrors(Method):
    """Lets the user see an error without a way out."""

    needs: ClassVar = frozenset({"texts", "retain"})

    def check(self, model: Model, request: Request) -> None:
        if not request.retain:
            raise ValueError("retain")

    def forget(self, model: Model, request: Request) -> Patch:
        return honest(model, request)


class NoisyMap(AffineMap):
    def __call__(self, rows: Tensor) -> Tensor:
        exact = rows if rows.dtype == torch.float64 else rows.float()
        return (exact + (exact @ self.down.to(exact)) @ self.up.to(exact)).to(rows.dtype)


class LeavesNoise(Method):
    """Leaves rounding noise where nothing should be, which points somewhere else on every device."""

    def forget(self, model: Model, request: Request) -> Patch:
        removal = honest(model, request).outputs["image"]
        return Patch(outputs={"image": NoisyMap(down=removal.down, up=removal.up)})


class HauntingPatch(Patch):
    def apply(self, model: Model) -> Model:
        edited, layer = of_kind(Patch, self).apply(model), readout_layer(model)
        layer.register_forward_hook(lambda here, _, output: output + 1e-3 if here is layer else output)
        return edited


class HauntsTheOriginal(Method):
    """Leaves the weights of the original as they were, and a hook behind that changes what it does."""

    def forget(self, model: Model, request: Request) -> Patch:
        return of_kind(HauntingPatch, honest(model, request).folded(model))


def readout_layer(model: Model) -> nn.Module:
    return model.module.get_submodule(model.adapter.image.readout.weight.rpartition(".")[0])


VANDALS: tuple[tuple[laws.Law, Method], ...] = (
    (laws.weights_stay_as_they_are, EditsInPlace()),
    (laws.same_inputs_give_same_bytes, ThrowsDice()),
    (laws.a_saved_patch_acts_to_the_bit, SavesRounded()),
    (laws.untouched_weights_are_shared, CopiesEverything()),
    (laws.folding_changes_nothing, FoldsWrongly()),
    (laws.settings_rebuild_the_method, HidesASetting()),
    (laws.the_class_is_forgotten_and_others_are_kept, DoesNothing()),
    (laws.the_class_is_forgotten_and_others_are_kept, DestroysEverything()),
    (laws.undeclared_images_are_not_needed, NeedsImagesSecretly()),
    (laws.errors_are_ours_and_end_with_the_way_out, RaisesBareErrors()),
    (laws.a_null_embedding_has_a_defined_result, LeavesNoise()),
    (laws.undo_is_exact, HauntsTheOriginal()),
)
"""Each law, and a method that breaks it and no other."""
