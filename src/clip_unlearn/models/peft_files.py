"""Adapters that stock PEFT loads, written without PEFT. Dimensions: m outputs, n inputs of a layer, r rank."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from clip_unlearn.core.model import Model, Readout
from clip_unlearn.core.patch import Patch
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic, tensors
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import Delta, LowRank, dense
from clip_unlearn.maths.truncate import truncate

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"

_OPENCLIP_PARAMETERS: Final = {
    "visual.proj": "visual.proj",
    "text.text_projection": "text.text_projection",
    # PEFT cannot wrap the whole model, so a parameter at its top has no adapter. With the text tower as a part of its
    # own, `force_custom_text=True`, it has a place.
    "text_projection": "text.text_projection",
}
"""Bare parameters [D, d] of open_clip, and where they are in a model that PEFT can wrap."""

_OPENCLIP_LAYERS: Final = ("visual.head.proj", "text.proj")
"""Linear layers that open_clip calls. It reads the weights of others past the layer, where an adapter has no effect."""

_CHECKPOINT: Final = "Write an edited checkpoint instead, with --to hf or --to open_clip."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The change of one layer, x -> x + (x right^T) left^T + bias, or of one bare parameter, W -> W + left right."""

    name: str
    """A linear layer, or a parameter of the module that holds it, by the name that PEFT finds it under."""

    change: LowRank
    bias: Tensor | None = None
    bare: bool = False
    """True for a parameter that belongs to no linear layer."""

    missed: float = 0.0
    """Share of a dense change that the low rank leaves out."""

    @property
    def rank(self) -> int:
        """Return r."""
        return self.change.left.shape[1]

    @property
    def key(self) -> str:
        """Return the prefix of the part's tensors in the adapter file."""
        return f"base_model.model.{self.name.rpartition('.')[0] if self.bare else self.name}"


@final
@dataclass(frozen=True, kw_only=True)
class Base:
    """The model that an adapter belongs to, as its configuration names it."""

    where: str
    """Hub id or folder."""

    revision: str = ""


def parts(model: Model, patch: Patch, *, rank: int | None = None) -> tuple[Part, ...]:
    """Return a patch as the parts of an adapter, in the order of their names; with `rank`, dense changes truncated.

    Output maps become changes of the last layer. Where that layer has no bias, an offset becomes the adapter's own.

    Raises:
        UnsupportedError: naming what stock PEFT cannot carry, and the way out.
    """
    changes, biases = _by_weight(model, patch.folded(model))
    found = tuple(_part(model, name, delta, biases, rank) for name, delta in sorted(changes.items()))
    if not found and not biases:
        raise UnsupportedError("The patch changes nothing, so there is no adapter to write.")
    alone = sorted(biases.keys() - {f"{part.name}.bias" for part in found if not part.bare})
    if alone or (biases and any(part.bare for part in found)):
        name = alone[0] if alone else min(biases)
        raise UnsupportedError(f"The change of '{name}' has no place in an adapter of this model. {_CHECKPOINT}")
    return found


def write(folder: Path, found: Sequence[Part], base: Base, module: nn.Module) -> None:
    """Write the adapter of a base model into an existing folder: configuration and tensors.

    lora_A is [r, n], lora_B [m, r], alpha = r, so that the scaling is 1 and B A is the change itself.
    """
    if any(part.bare for part in found):  # rank patterns do not reach bare parameters
        found = [_padded(part, max(other.rank for other in found)) for part in found]
    with_bias = any(part.bias is not None for part in found)
    named: dict[str, Tensor] = {}
    for part in found:
        named[f"{part.key}.lora_A.weight"] = part.change.right.float()
        named[f"{part.key}.lora_B.weight"] = part.change.left.float()
        if with_bias:
            outputs = part.change.left.shape[0]
            named[f"{part.key}.lora_B.bias"] = torch.zeros(outputs) if part.bias is None else part.bias.float()
    tensors.write(folder / WEIGHTS_FILE, named, metadata={"format": "pt"})
    atomic.write_json(folder / CONFIG_FILE, _config(found, base, module, with_bias=with_bias))


def _config(found: Sequence[Part], base: Base, module: nn.Module, *, with_bias: bool) -> Mapping[str, Any]:
    rank = max(part.rank for part in found)
    smaller = {f"^{re.escape(part.name)}": part.rank for part in found if part.rank != rank}
    kind = type(module)
    is_transformers = kind.__module__.startswith("transformers.")
    return {
        "peft_type": "LORA",
        "task_type": None,
        "auto_mapping": {"base_model_class": kind.__name__, "parent_library": kind.__module__}
        if is_transformers
        else None,
        "base_model_name_or_path": base.where,
        "revision": base.revision or None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": smaller,
        "alpha_pattern": smaller,
        "lora_dropout": 0.0,
        "bias": "none",
        "lora_bias": with_bias,
        "fan_in_fan_out": False,
        "target_modules": _targets([part.name for part in found if not part.bare], module),
        "target_parameters": sorted(part.name for part in found if part.bare) or None,
    }


def _targets(names: Sequence[str], module: nn.Module) -> list[str] | str:
    """Return the layers by name; as one exact expression where a name is also the end of another layer's name."""
    others = {name for name, _ in module.named_modules()} - set(names)
    if any(other.endswith(f".{name}") for other in others for name in names):
        return "|".join(re.escape(name) for name in sorted(names))
    return sorted(names)


def _part(model: Model, name: str, delta: Delta, biases: Mapping[str, Tensor], rank: int | None) -> Part:
    layer, _, leaf = name.rpartition(".")
    bare = _is_openclip(model) and name in _OPENCLIP_PARAMETERS
    linear = leaf == "weight" and isinstance(model.module.get_submodule(layer), nn.Linear)
    if not bare and (not linear or (_is_openclip(model) and layer not in _OPENCLIP_LAYERS)):
        raise UnsupportedError(f"'{name}' is in no layer that a stock adapter changes. {_CHECKPOINT}")
    missed = 0.0
    if not isinstance(delta, LowRank):
        if rank is None:
            raise UnsupportedError(
                f"'{name}' changes as a whole and not in a few directions, so it is no adapter. {_CHECKPOINT} Or "
                "write the nearest adapter of rank N with --rank N."
            )
        delta, missed = truncate(delta, rank)
    if bare:
        return Part(name=_OPENCLIP_PARAMETERS[name], change=delta, bare=True, missed=missed)
    return Part(name=layer, change=delta, bias=biases.get(f"{layer}.bias"), missed=missed)


def _by_weight(model: Model, folded: Patch) -> tuple[dict[str, Delta], dict[str, Tensor]]:
    """Return the changes of weights, with maps that kept an offset among them, and apart from them those of biases."""
    changes = {name: delta for name, delta in folded.deltas.items() if not _is_bias(model, name)}
    biases = {name: dense(delta) for name, delta in folded.deltas.items() if name not in changes}
    for tower, output in folded.outputs.items():
        readout = model.readout(tower)
        if readout is None or output.offset is None or not _takes_offset(model, readout, changes):
            raise UnsupportedError(
                f"The patch maps the output of the {tower} tower, and no adapter can hold that map. Keep the patch "
                "and apply it when the model is opened."
            )
        changes[readout.weight] = _folded(output, model.weights[readout.weight])
        biases[readout.weight.removesuffix("weight") + "bias"] = output.offset
    return changes, biases


def _is_bias(model: Model, name: str) -> bool:
    layer, _, leaf = name.rpartition(".")
    return leaf == "bias" and isinstance(model.module.get_submodule(layer), nn.Linear)


def _is_openclip(model: Model) -> bool:
    return model.adapter.family == "openclip"


def _takes_offset(model: Model, readout: Readout, taken: Mapping[str, Delta]) -> bool:
    """Return True for a last layer that a map did not fold into for nothing but its offset; PEFT brings the bias."""
    shares = sum(other is model.weights[readout.weight] for other in model.weights.values())
    return readout.bias is None and not readout.transposed and readout.weight not in taken and shares == 1


def _folded(output: AffineMap, weight: Tensor) -> LowRank:
    right = output.down.double().T @ weight.detach().double().to(output.down.device)
    return LowRank(left=output.up.T.float(), right=right.float())


def _padded(part: Part, rank: int) -> Part:
    """Return the part at a larger rank, filled up with zeros, which change nothing."""
    extra = rank - part.rank
    left = nn.functional.pad(part.change.left, (0, extra))
    return replace(part, change=LowRank(left=left, right=nn.functional.pad(part.change.right, (0, 0, 0, extra))))
