"""What a patch does to the embeddings of one side, where that is a map of the embeddings alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Reach
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import dense
from clip_unlearn.maths.unfold import unfold

TOLERANCE: Final = 1e-4
"""Largest share of a change that may be no map of the embedding; float32 rounding stays below 1e-5."""

INVERTIBLE: Final = 1e-5
"""An eigenvalue of the map under this is rounding noise of a removed direction."""

_OWN: Final[WeakKeyDictionary[nn.Module, dict[object, tuple[str, ...]]]] = WeakKeyDictionary()
"""What `tower_digest` found to count, while a module lives: it costs a pass and the way back."""

TOWERS: Final[tuple[TowerName, ...]] = ("image", "text")


def embedding_map(patch: Patch, model: Model, tower: TowerName) -> AffineMap | None:
    """Return the map of embeddings that a patch amounts to, or None where it leaves the tower's embeddings alone.

    An output map is its own map; a change of the last layer is the map found by `unfold`; both together are composed.
    `model` is the base model that the patch was made for, which `Patch.apply` checks.

    Raises:
        UnsupportedError: if weights below the last layer change, or the last layer changes by more than a map: then
            the embeddings have to be computed again.
    """
    below = used(model, tower, [name for name in patch.deltas if not _is_readout(model, tower, name)])
    if below:
        raise UnsupportedError(
            f"The patch changes '{below[0]}' below the last layer, so {tower} embeddings cannot be mapped. Embed the "
            f"{tower}s again with the edited model."
        )
    change, output = _readout_map(patch, model, tower), patch.outputs.get(tower)
    if change is None or output is None:
        return change or output
    return change.then(output)


def reach(patch: Patch, model: Model) -> Reach:
    """Return how far a patch goes in the model that it was made for."""
    touched = [tower for tower in TOWERS if _touches(patch, model, tower)]
    if patch.empty:
        return Reach()
    readouts = all(any(_is_readout(model, tower, name) for tower in TOWERS) for name in patch.deltas)
    return Reach(
        towers=tuple(touched),
        depth="readout" if readouts else "encoder",
        invertible=any(_invertible(patch, model, tower) for tower in touched),
    )


def used(model: Model, tower: TowerName, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the named weights that the tower's embedding depends on, in their order.

    A weight counts when a gradient reaches it from the embedding of one blank picture or one word. What is no
    parameter, such as the statistics of a normalisation, always counts, because gradients do not tell.
    """
    parameters = [name for name in names if isinstance(model.weights[name], nn.Parameter)]
    found = set(names) - set(parameters)
    if parameters:
        leaves = {name: model.weights[name].detach().requires_grad_() for name in parameters}
        with torch.enable_grad():
            total = _embed_anything(model.replace(leaves), tower).sum()
        if total.requires_grad:
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
            found |= {name for name, gradient in zip(leaves, gradients, strict=True) if gradient is not None}
    return tuple(name for name in names if name in found)


def shares_features(model: Model, other: Model, tower: TowerName) -> bool:
    """Return True when both models have the same features before a tower's last layer, sharing all weights below it."""
    readout = model.readout(tower)
    if readout is None or other.readout(tower) != readout or model.weights.keys() != other.weights.keys():
        return False
    own = {readout.weight, readout.bias}
    changed = [name for name, weight in model.weights.items() if other.weights[name] is not weight and name not in own]
    return not used(model, tower, changed)


def tower_digest(model: Model, tower: TowerName) -> str:
    """Return the SHA-256 over the weights that a tower depends on: where it is the same, the tower acts the same.

    Left out is what this tower does not depend on and something else does: the other tower, the last layer of a tower
    that is run to what it holds before it, the scale and the offset of logits. A weight that nothing shows to depend on
    counts.
    """
    known = _OWN.setdefault(model.module, {})
    kind = (tower, model.adapter.image, model.adapter.text)
    if kind not in known:
        known[kind] = _own(model, tower)
    return model.digest_of(known[kind])


def _own(model: Model, tower: TowerName) -> tuple[str, ...]:
    names, readout = tuple(model.weights), model.readout(tower)
    other: TowerName = "image" if tower == "text" else "text"
    elsewhere = {*used(model, other, names), model.adapter.logit_scale, model.adapter.logit_bias}
    elsewhere |= set() if readout is None else {readout.weight, readout.bias}
    own = set(used(model, tower, names))
    return tuple(name for name in names if name in own or name not in elsewhere)


def _embed_anything(model: Model, tower: TowerName) -> Tensor:
    if tower == "text":
        return model.texts(["a"])
    space = model.adapter.pixels
    return model.images(torch.zeros(1, 3, space.height, space.width, device=model.device))


def _is_readout(model: Model, tower: TowerName, name: str) -> bool:
    readout = model.readout(tower)
    names = () if readout is None else (readout.weight, readout.bias)
    return any(own is not None and model.weights[name] is model.weights[own] for own in names)


def _touches(patch: Patch, model: Model, tower: TowerName) -> bool:
    if tower in patch.outputs or any(_is_readout(model, tower, name) for name in patch.deltas):
        return True
    return bool(used(model, tower, list(patch.deltas)))


def _invertible(patch: Patch, model: Model, tower: TowerName) -> bool:
    try:
        found = embedding_map(patch, model, tower)
    except UnsupportedError:
        return False  # no map of the embedding, so there is nothing to invert
    if found is None or not found.rank:
        return False
    # det(I + D U) = det(I + U D), and the eigenvalues of both are the same but for ones.
    core = torch.eye(found.rank, dtype=torch.float64) + found.up.double().cpu() @ found.down.double().cpu()
    return float(torch.linalg.eigvals(core).abs().min()) > INVERTIBLE


def _readout_map(patch: Patch, model: Model, tower: TowerName) -> AffineMap | None:
    readout = model.readout(tower)
    changes = {id(model.weights[name]): delta for name, delta in patch.deltas.items()}
    if readout is None or not any(_is_readout(model, tower, name) for name in patch.deltas):
        return None
    weight = model.weights[readout.weight]
    found, residual = unfold(weight, changes.get(id(weight), torch.zeros_like(weight)), transposed=readout.transposed)
    if residual > TOLERANCE:
        raise UnsupportedError(
            f"The change of '{readout.weight}' depends on more than the embedding ({100 * residual:.1f} % of it is no "
            f"map of it). Embed the {tower}s again with the edited model."
        )
    if readout.bias is None:
        return found
    bias = model.weights[readout.bias]
    old = bias.detach().double().cpu()
    # A bias b that is mapped along becomes b (I + D U); what it changes beyond that is an offset.
    shift = -((old @ found.down.double()) @ found.up.double())
    if id(bias) in changes:
        shift = shift + dense(changes[id(bias)]).double().cpu()
    return replace(found, offset=shift.float() if float(shift.norm()) > TOLERANCE * float(old.norm()) else None)
