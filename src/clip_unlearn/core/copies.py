"""Structural copies of a module: new structure, shared tensors."""

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and saved buffer by its state-dict name, the tensors themselves, tied names included."""
    return dict(module.state_dict(keep_vars=True))


def with_tensors(module: ModuleType, changed: Mapping[str, Tensor]) -> ModuleType:
    """Return a copy of the module's structure in which `changed` tensors stand in and all others are shared.

    A deepcopy whose memo maps every old tensor to itself or to its replacement: no tensor is copied, tied weights stay
    tied, and the original is untouched. A replacement that requires a gradient stays a leaf (or a node) of its graph.

    Raises:
        KeyError: if a name is not a weight of the module.
        ValueError: if a shape differs.
    """
    tensors = named_tensors(module)
    memo: dict[int, object] = {}
    for part in module.modules():
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None:
                memo[id(tensor)] = tensor
    for name, value in changed.items():
        old = tensors[name]
        if old.shape != value.shape:
            raise ValueError(f"'{name}' has shape {tuple(old.shape)}, not {tuple(value.shape)}")
        if isinstance(old, nn.Parameter) and not value.requires_grad:
            value = nn.Parameter(value, requires_grad=False)
        memo[id(old)] = value
    return copy.deepcopy(module, memo)
