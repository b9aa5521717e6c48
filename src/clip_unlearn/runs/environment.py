"""The machine and the libraries of a run."""

import platform

import torch

from clip_unlearn.core.record import Environment
from clip_unlearn.core.versions import library_versions, version


def environment(device: str) -> Environment:
    """Return what a record says about where it was made; no host or user names."""
    return Environment(
        package=version(),
        python=platform.python_version(),
        libraries=library_versions(),
        machine=f"{platform.system()} {platform.machine()}",
        threads=torch.get_num_threads(),
        device=device,
    )
