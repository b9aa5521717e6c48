"""Ways to forget, one file each. A new file is found by its name."""

import sys

from clip_unlearn.core import discovery
from clip_unlearn.core.method import Method

GROUP = "clip_unlearn.methods"


def names() -> tuple[str, ...]:
    """Return the names of all methods, own and installed by others, without importing them."""
    return discovery.names(sys.modules[__name__], group=GROUP)


def find(name: str) -> type[Method]:
    """Return the method of that name; call it with settings.

    Raises:
        UnknownNameError: with the nearest name, if there is none.
    """
    return discovery.find(name, sys.modules[__name__], Method, group=GROUP, what="method")  # type: ignore[type-abstract]
