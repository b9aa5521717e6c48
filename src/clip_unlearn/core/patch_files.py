"""The files of a patch folder: tensors, description, model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, cast

from torch import Tensor

from clip_unlearn.core import card
from clip_unlearn.core.config import build
from clip_unlearn.core.model import TowerName
from clip_unlearn.core.record import Origin
from clip_unlearn.errors import InputError, WeightsError
from clip_unlearn.files import atomic, digest, tensors
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import Delta, LowRank

FORMAT: Final = 1
TENSORS_FILE = "patch.safetensors"
DESCRIPTION_FILE = "patch.json"
NAMES = (TENSORS_FILE, DESCRIPTION_FILE, card.CARD_FILE)


class Parts(NamedTuple):
    """What a patch consists of."""

    deltas: Mapping[str, Delta]
    outputs: Mapping[TowerName, AffineMap]
    reason: str
    origin: Origin | None


def write(folder: Path, parts: Parts) -> None:
    """Write the files into an existing folder, the description last."""
    tensors.write(folder / TENSORS_FILE, _packed(parts))
    atomic.write_text(folder / card.CARD_FILE, _card(parts.origin))
    description = {
        "format": FORMAT,
        "sha256": digest.of_file(folder / TENSORS_FILE),
        "reason": parts.reason,
        "origin": None if parts.origin is None else parts.origin.model_dump(mode="json"),
    }
    atomic.write_json(folder / DESCRIPTION_FILE, description)


def read(folder: Path) -> Parts:
    """Return the parts of the patch in a folder.

    Raises:
        WeightsError: if a file is missing or damaged, or the format is another.
    """
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise WeightsError(f"{folder} holds no {DESCRIPTION_FILE}. Give a folder that a run or save_pretrained wrote.")
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON. Fetch the patch again.") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise WeightsError(f"{path} is not of patch format {FORMAT}. Update this package, or fetch the patch again.")
    file = tensors.present(folder / TENSORS_FILE)
    if description.get("sha256") != digest.of_file(file):
        raise WeightsError(f"{file} does not match its digest in {path.name}. Fetch the patch again.")
    named, origin = tensors.read(file), description.get("origin")
    try:
        parts = Parts(
            deltas=_deltas(named),
            outputs=_outputs(named),
            reason=str(description.get("reason", "")),
            origin=None if origin is None else build(Origin, origin, where=str(path)),
        )
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise WeightsError(f"{path} and {file.name} do not make a patch ({error}). Fetch the patch again.") from error
    if _packed(parts).keys() != named.keys():
        raise WeightsError(f"{file} holds tensors that belong to no patch. Fetch the patch again.")
    return parts


def _packed(parts: Parts) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, delta in parts.deltas.items():
        if isinstance(delta, LowRank):
            named[f"delta.left/{name}"], named[f"delta.right/{name}"] = delta.left, delta.right
        else:
            named[f"delta/{name}"] = delta
    for tower, output in parts.outputs.items():
        named[f"output.down/{tower}"], named[f"output.up/{tower}"] = output.down, output.up
        if output.offset is not None:
            named[f"output.offset/{tower}"] = output.offset
    return named


def _deltas(named: Mapping[str, Tensor]) -> dict[str, Delta]:
    deltas: dict[str, Delta] = {}
    for label, tensor in named.items():
        kind, _, name = label.partition("/")
        if kind == "delta":
            deltas[name] = tensor
        elif kind == "delta.left":
            deltas[name] = LowRank(left=tensor, right=named[f"delta.right/{name}"])
    return deltas


def _outputs(named: Mapping[str, Tensor]) -> dict[TowerName, AffineMap]:
    outputs: dict[TowerName, AffineMap] = {}
    for tower in cast(tuple[TowerName, ...], ("image", "text")):
        if f"output.down/{tower}" in named:
            outputs[tower] = AffineMap(
                down=named[f"output.down/{tower}"],
                up=named[f"output.up/{tower}"],
                offset=named.get(f"output.offset/{tower}"),
            )
    return outputs


def _card(origin: Origin | None) -> str:
    base = "the base model" if origin is None else card.opened_by(origin.base)
    lines = [
        "from clip_unlearn import Patch, open_model",
        "",
        f"model = open_model({json.dumps(base)})",
        'edited = Patch.from_pretrained(".").apply(model)',
    ]
    return card.render(
        card.Card(
            title="Patch: a model edit by clip-unlearn",
            origin=origin,
            edit="suppress",
            reach=None if origin is None else origin.reach,
            load="\n".join(lines),
            library="clip-unlearn",
            relation="adapter",
            notes=("`patch.json` holds the request, all settings and digests, `patch.safetensors` the numbers.",),
        )
    )
