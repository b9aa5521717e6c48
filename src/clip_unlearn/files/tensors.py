"""Safetensors files, checked before use. Nothing here unpickles, and nothing here trusts a length it did not check."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from clip_unlearn.errors import WeightsError
from clip_unlearn.files import atomic

HEADER_LIMIT = 10_000_000
_KINDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def refuse_pickle(path: Path) -> None:
    """Check that a weights file is not of a kind that runs code when opened.

    Raises:
        WeightsError: if its ending is one of the pickle formats.
    """
    if path.suffix in _PICKLES:
        raise WeightsError(f"{path} is a pickle file, which can run code when opened. Convert it to .safetensors.")


def check(path: Path) -> None:
    """Check the frame of a safetensors file without loading it: length, header, kinds, names, extents.

    Raises:
        WeightsError: naming what is wrong.
    """
    refuse_pickle(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if size < 8 or header_size > min(HEADER_LIMIT, size - 8):
            raise _damaged(path, "its header does not fit the file")
        header = _parse(path, file.read(header_size))
    end = max((_extent(path, name, entry) for name, entry in header.items() if name != "__metadata__"), default=0)
    if size != 8 + header_size + end:
        raise _damaged(path, f"it has {size} bytes and should have {8 + header_size + end}")


def present(path: Path) -> Path:
    """Return the path of a weights file that is there.

    Raises:
        WeightsError: if it is not.
    """
    if not path.is_file():
        raise WeightsError(f"{path} does not exist. Check the path.")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a checked file, read into memory.

    Raises:
        WeightsError: if the file is missing, damaged, of another kind or holds NaN or infinity.
    """
    check(present(path))
    try:
        tensors = safetensors.torch.load(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise _damaged(path, str(error)) from error
    for name, tensor in tensors.items():
        _refuse_nan(path, name, tensor)
    return tensors


def check_finite(path: Path) -> None:
    """Check the frame of a file and that every number in it is finite, one tensor in memory at a time.

    Raises:
        WeightsError: naming what is wrong.
    """
    check(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (the handle is not iterable)
                _refuse_nan(path, name, file.get_tensor(name))
    except safetensors.SafetensorError as error:
        raise _damaged(path, str(error)) from error


def write(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors atomically; tensors that share storage are stored separately.

    Raises:
        ValueError: if a tensor holds NaN or infinity; such weights are never saved.
        StorageError: if the disk refuses.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"'{name}' holds NaN or infinity")
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    # Not an empty table: with no tensors beside it, the library writes a header that is not JSON.
    atomic.write_bytes(path, safetensors.torch.save(owned, metadata=dict(metadata) if metadata else None))


def _refuse_nan(path: Path, name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{path}: '{name}' holds NaN or infinity. Fetch the file again.")


def _parse(path: Path, text: bytes) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) != len(names):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a table")
    return header


def _extent(path: Path, name: str, entry: object) -> int:
    if not isinstance(entry, dict) or entry.get("dtype") not in _KINDS:
        raise _damaged(path, f"'{name}' has an unknown number format")
    offsets = entry.get("data_offsets")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(isinstance(offset, int) for offset in offsets):
        raise _damaged(path, f"'{name}' does not say where its numbers are")
    last: int = max(offsets)
    return last


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(f"{path} is not a sound safetensors file: {reason}. Fetch it again.")
