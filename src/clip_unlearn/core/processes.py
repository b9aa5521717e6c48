"""Which of several processes that share one job this is. Torch-free."""

import os


def is_main() -> bool:
    """Return whether this process is the one that writes; a process on its own is.

    Launchers such as `accelerate launch` give every process its number as RANK.
    """
    return int(os.environ.get("RANK", "0")) == 0
