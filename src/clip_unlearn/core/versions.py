"""Versions of this package and of the libraries it stands on. Torch-free."""

import importlib.metadata

LIBRARIES = ("torch", "transformers", "open_clip_torch", "safetensors", "numpy", "scipy", "pillow", "pydantic")


def version() -> str:
    """Return the version of this package."""
    return importlib.metadata.version("clip-unlearn")


def library_versions(names: tuple[str, ...] = LIBRARIES) -> dict[str, str]:
    """Return the version of each installed library; those not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
