"""Make a CLIP model forget a class: small reversible patches, honest measurements, every family by one door.

Every name below is loaded when it is first used, so that importing the package costs nothing.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clip_unlearn.core.method import Method as Method
    from clip_unlearn.core.model import Model as Model
    from clip_unlearn.core.patch import Patch as Patch
    from clip_unlearn.core.probe import Probe as Probe
    from clip_unlearn.core.record import Reading as Reading
    from clip_unlearn.core.record import Record as Record
    from clip_unlearn.core.request import Concept as Concept
    from clip_unlearn.core.request import Evidence as Evidence
    from clip_unlearn.core.request import Request as Request
    from clip_unlearn.data.images import ImageSet as ImageSet
    from clip_unlearn.data.open import open_data as open_data
    from clip_unlearn.errors import ClipUnlearnError as ClipUnlearnError
    from clip_unlearn.errors import InputError as InputError
    from clip_unlearn.methods import find as find_method
    from clip_unlearn.models.open import open_model as open_model
    from clip_unlearn.probes import find as find_probe
    from clip_unlearn.runs.api import evaluate as evaluate
    from clip_unlearn.runs.api import unlearn as unlearn
    from clip_unlearn.runs.bake import bake as bake
    from clip_unlearn.runs.recipe import Recipe as Recipe
    from clip_unlearn.runs.run import run as run

_HOME = {
    "ClipUnlearnError": "clip_unlearn.errors",
    "Concept": "clip_unlearn.core.request",
    "Evidence": "clip_unlearn.core.request",
    "ImageSet": "clip_unlearn.data.images",
    "InputError": "clip_unlearn.errors",
    "Method": "clip_unlearn.core.method",
    "Model": "clip_unlearn.core.model",
    "Patch": "clip_unlearn.core.patch",
    "Probe": "clip_unlearn.core.probe",
    "Reading": "clip_unlearn.core.record",
    "Recipe": "clip_unlearn.runs.recipe",
    "Record": "clip_unlearn.core.record",
    "Request": "clip_unlearn.core.request",
    "bake": "clip_unlearn.runs.bake",
    "evaluate": "clip_unlearn.runs.api",
    "find_method": "clip_unlearn.methods:find",
    "find_probe": "clip_unlearn.probes:find",
    "open_data": "clip_unlearn.data.open",
    "open_model": "clip_unlearn.models.open",
    "run": "clip_unlearn.runs.run",
    "unlearn": "clip_unlearn.runs.api",
}

__all__ = [
    "ClipUnlearnError",
    "Concept",
    "Evidence",
    "ImageSet",
    "InputError",
    "Method",
    "Model",
    "Patch",
    "Probe",
    "Reading",
    "Recipe",
    "Record",
    "Request",
    "bake",
    "evaluate",
    "find_method",
    "find_probe",
    "open_data",
    "open_model",
    "run",
    "unlearn",
]


def __getattr__(name: str) -> object:
    """Return a public name from its home module."""
    if name == "__version__":
        return importlib.metadata.version("clip-unlearn")
    if name not in _HOME:
        raise AttributeError(f"module 'clip_unlearn' has no attribute '{name}'")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
