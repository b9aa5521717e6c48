"""The trained checkpoints inside the package, by name: ordinary folders that the ordinary doors open."""

from importlib.resources import files
from pathlib import Path


def names() -> tuple[str, ...]:
    """Return the names of the embedded checkpoints, sorted."""
    return tuple(sorted(path.name for path in _weights().iterdir() if path.is_dir()))


def folder(name: str) -> Path | None:
    """Return the folder of the embedded checkpoint of that name, or None."""
    return _weights() / name if name in names() else None


def _weights() -> Path:
    return Path(str(files("clip_unlearn"))) / "sandbox" / "weights"
