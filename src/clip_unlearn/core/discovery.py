"""Methods and probes by file name: no registry, no decorator, nothing to edit when one is added."""

import importlib
import importlib.metadata
import pkgutil
from types import ModuleType
from typing import TypeVar

from clip_unlearn.errors import UnknownNameError, nearest

Kind = TypeVar("Kind")


def names(package: ModuleType, *, group: str) -> tuple[str, ...]:
    """Return the names of all files of a package and of all installed entry points of a group, sorted.

    Nothing is imported. Files and folders whose name begins with an underscore are private.
    """
    own = (name for name in _modules(package))
    foreign = (point.name for point in importlib.metadata.entry_points(group=group))
    return tuple(sorted({*own, *foreign}))


def find(name: str, package: ModuleType, base: type[Kind], *, group: str, what: str) -> type[Kind]:
    """Return the one subclass of `base` that the file or entry point of that name defines.

    Raises:
        UnknownNameError: with the nearest name, if there is none.
        TypeError: if the file does not define exactly one such class.
    """
    modules = _modules(package)
    if name in modules:
        return _only_subclass(importlib.import_module(modules[name]), base)
    for point in importlib.metadata.entry_points(group=group, name=name):
        loaded = point.load()
        return _only_subclass(loaded, base) if isinstance(loaded, ModuleType) else _checked(loaded, base)
    known = names(package, group=group)
    raise UnknownNameError(f"Unknown {what} '{name}'.{nearest(name, known)} Known: {', '.join(known)}.")


def _modules(package: ModuleType) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in pkgutil.walk_packages(package.__path__, prefix=f"{package.__name__}."):
        inner = entry.name.removeprefix(f"{package.__name__}.").split(".")
        if not entry.ispkg and not any(part.startswith("_") for part in inner):
            if inner[-1] in found:
                raise TypeError(f"{entry.name} and {found[inner[-1]]} have the same name")
            found[inner[-1]] = entry.name
    return found


def _only_subclass(module: ModuleType, base: type[Kind]) -> type[Kind]:
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise TypeError(f"{module.__name__} must define exactly one {base.__name__}, not {len(own)}")
    return own[0]


def _checked(loaded: object, base: type[Kind]) -> type[Kind]:
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        raise TypeError(f"{loaded!r} is not a {base.__name__}")
    return loaded
