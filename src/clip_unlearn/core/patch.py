"""The edit as data. Dimensions: d embedding width, D feature width, r rank."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from clip_unlearn.core import patch_files
from clip_unlearn.core.model import Model, Readout, TowerName
from clip_unlearn.core.patch_files import Parts
from clip_unlearn.core.record import Origin, Reading
from clip_unlearn.errors import UnsupportedError, WeightsError
from clip_unlearn.files import atomic, hub
from clip_unlearn.maths import lowrank
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import Delta, LowRank


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """Changes of weights and maps of outputs that turn one model into another; empty when nothing was changed."""

    deltas: Mapping[str, Delta] = field(default_factory=dict)
    """Change of each touched weight, by its checkpoint name."""

    outputs: Mapping[TowerName, AffineMap] = field(default_factory=dict)
    """Map of each touched tower's embedding."""

    reason: str = ""
    """Why the patch is empty, where a method found nothing that helps."""

    origin: Origin | None = None
    """Who made it; filled in by a run, not by methods."""

    readings: tuple[Reading, ...] = ()
    """What a method measured while it worked, for example on pictures that it made itself. No part of the edit: files
    hold it as `origin.measured`, into which a run moves it."""

    def apply(self, model: Model) -> Model:
        """Return the edited model; the given one is untouched, and untouched weights are shared.

        W' = cast(W + D), added in float32; an output map is appended to a map the model may have already.

        Raises:
            WeightsError: if the patch was made for other weights, or names weights that the model lacks.
        """
        self._check_base(model)
        changed = {}
        for name, delta in self.deltas.items():
            weight = model.weights[name].detach()
            full = lowrank.dense(delta).to(weight.device)
            if full.shape != weight.shape:
                raise WeightsError(f"The change of '{name}' has another shape. Apply it to the model it was made for.")
            changed[name] = (weight.float() + full).to(weight.dtype)
        outputs = dict(model.outputs)
        for tower, output in self.outputs.items():
            here = _on(output, model.device)
            outputs[tower] = outputs[tower].then(here) if tower in outputs else here
        return model.replace(changed, outputs)

    def then(self, after: "Patch") -> "Patch":
        """Return the patch that acts as this one followed by `after`.

        This is composition, not the joint edit of both requests: recompute that from the requests.

        Raises:
            UnsupportedError: if `after` changes weights below an output map of this patch, where order matters.
        """
        if self.outputs and after.deltas:
            raise UnsupportedError("A patch with output maps cannot be followed by one with weights. Fold it first.")
        deltas = dict(self.deltas)
        for name, delta in after.deltas.items():
            deltas[name] = _sum(deltas[name], delta) if name in deltas else delta
        outputs = dict(self.outputs)
        for tower, output in after.outputs.items():
            outputs[tower] = outputs[tower].then(output) if tower in outputs else output
        return Patch(deltas=deltas, outputs=outputs)

    def scaled(self, factor: float) -> "Patch":
        """Return the patch with every change multiplied by `factor`; 0 changes nothing, 1 is the patch itself."""
        return Patch(
            deltas={name: lowrank.scaled(delta, factor) for name, delta in self.deltas.items()},
            outputs={tower: output.scaled(factor) for tower, output in self.outputs.items()},
        )

    def folded(self, model: Model) -> "Patch":
        """Return an equal patch with every output map moved into the tower's readout, where the family allows it.

        Row embeddings z = h W^T become z (I + D U), so W' = W + U^T (D^T W); for a transposed weight W' = W + (W D) U;
        a bias b becomes b (I + D U) + c. A map with an offset does not fold into a readout without a bias, and none
        folds into a weight that the patch changes already or that is tied to another weight. A map sends what it
        removes whole to exactly null; folded weights leave rounding noise in its place.
        """
        self._check_base(model)
        deltas, outputs = dict(self.deltas), {}
        for tower, output in self.outputs.items():
            readout = model.readout(tower)
            if readout is None or tower in model.outputs or not _foldable(output, readout, model.weights, deltas):
                outputs[tower] = output
            else:
                deltas.update(_fold(output, readout, model.weights))
        return replace(self, deltas=deltas, outputs=outputs)

    @property
    def portable(self) -> bool:
        """Return True when the edited model is an ordinary checkpoint, without maps beside it."""
        return not self.outputs

    @property
    def empty(self) -> bool:
        """Return True when the patch changes nothing."""
        return not self.deltas and not self.outputs

    @property
    def touches(self) -> tuple[str, ...]:
        """Return what is changed: weight names, then "output:image" and "output:text"."""
        return (*sorted(self.deltas), *(f"output:{tower}" for tower in sorted(self.outputs)))

    def survived(self, model: Model) -> float:
        """Return the smallest share of any weight change that outlives the cast to the weight's number format."""
        shares = [lowrank.survived(model.weights[name].detach(), delta) for name, delta in self.deltas.items()]
        return min(shares, default=1.0)

    @staticmethod
    def between(before: Model, after: Model) -> "Patch":
        """Return the patch that turns `before` into `after`: a dense change of every weight that is not shared.

        Raises:
            ValueError: if the models have different weights, shapes or output maps.
        """
        if before.weights.keys() != after.weights.keys() or before.outputs != after.outputs:
            raise ValueError("the models differ in more than the values of their weights")
        deltas: dict[str, Delta] = {}
        for name, weight in before.weights.items():
            other = after.weights[name]
            if other is not weight and not torch.equal(other, weight):
                deltas[name] = (other.detach().double() - weight.detach().double()).float()
        return Patch(deltas=deltas)

    def save_pretrained(self, where: str | Path, *, force: bool = False) -> None:
        """Write the patch folder: tensors, description, model card. Old state or new state, nothing between.

        Raises:
            OutputError: if the folder has content and `force` is not set.
            StorageError: if the disk refuses.
        """
        with atomic.new_folder(Path(where), force=force) as folder:
            self.write(folder)

    def write(self, folder: Path) -> None:
        """Write the files of the patch into an existing folder; `save_pretrained` is the safe way."""
        patch_files.write(folder, Parts(self.deltas, self.outputs, self.reason, self.origin))

    @classmethod
    def from_pretrained(
        cls,
        where: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
    ) -> "Patch":
        """Return the patch in a folder or hub repository.

        Raises:
            WeightsError: if it is missing, damaged, or of a newer format.
        """
        names, offline = patch_files.NAMES, local_files_only
        folder = hub.snapshot(str(where), what="Patch", patterns=names, revision=revision, token=token, offline=offline)
        deltas, outputs, reason, origin = patch_files.read(folder.folder)
        return cls(deltas=deltas, outputs=outputs, reason=reason, origin=origin)

    def push_to_hub(self, repository: str, *, token: str | None = None, private: bool = True) -> str:
        """Upload the patch folder and return its address; needs a connection and write access."""
        import tempfile

        import huggingface_hub

        api = huggingface_hub.HfApi(token=token)
        api.create_repo(repository, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.write(Path(folder))
            return str(api.upload_folder(repo_id=repository, folder_path=folder))

    def _check_base(self, model: Model) -> None:
        if self.origin is not None and self.origin.base.digest != model.fingerprint:
            raise WeightsError(
                f"The patch was made for {self.origin.base.where} ({self.origin.base.digest[:12]}), not for "
                f"{model.source.where} ({model.fingerprint[:12]}). Apply it to the model it was made for."
            )
        missing = [name for name in self.deltas if name not in model.weights]
        if missing:
            raise WeightsError(f"The model has no weight '{missing[0]}'. Apply the patch to the model it was made for.")


def _foldable(output: AffineMap, readout: Readout, weights: Mapping[str, Tensor], taken: Mapping[str, Delta]) -> bool:
    names = [name for name in (readout.weight, readout.bias) if name is not None]
    tied = any(sum(other is weights[name] for other in weights.values()) > 1 for name in names)
    return not tied and taken.keys().isdisjoint(names) and (output.offset is None or readout.bias is not None)


def _fold(output: AffineMap, readout: Readout, weights: Mapping[str, Tensor]) -> dict[str, Delta]:
    weight = weights[readout.weight].detach().double()
    down, up = output.down.to(weight), output.up.to(weight)
    left, right = (weight @ down, up) if readout.transposed else (up.T, down.T @ weight)
    folded: dict[str, Delta] = {readout.weight: LowRank(left=left.float(), right=right.float())}
    if readout.bias is not None:
        bias = weights[readout.bias].detach().double()
        moved = (bias @ down) @ up
        folded[readout.bias] = (moved if output.offset is None else moved + output.offset.to(bias)).float()
    return folded


def _sum(first: Delta, second: Delta) -> Delta:
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        left = torch.cat([first.left, second.left], dim=1)
        return LowRank(left=left, right=torch.cat([first.right, second.right], dim=0))
    return lowrank.dense(first) + lowrank.dense(second)


def _on(output: AffineMap, device: torch.device) -> AffineMap:
    offset = None if output.offset is None else output.offset.to(device)
    return AffineMap(down=output.down.to(device), up=output.up.to(device), offset=offset)
