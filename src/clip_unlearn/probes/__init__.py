"""Evaluations and audits, one file each. A new file is found by its name."""

import sys

from clip_unlearn.core import discovery
from clip_unlearn.core.probe import Probe

GROUP = "clip_unlearn.probes"


def names() -> tuple[str, ...]:
    """Return the names of all probes, own and installed by others, without importing them."""
    return discovery.names(sys.modules[__name__], group=GROUP)


def find(name: str) -> type[Probe]:
    """Return the probe of that name; call it with settings.

    Raises:
        UnknownNameError: with the nearest name, if there is none.
    """
    return discovery.find(name, sys.modules[__name__], Probe, group=GROUP, what="probe")  # type: ignore[type-abstract]
