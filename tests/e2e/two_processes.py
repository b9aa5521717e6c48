"""Forgets a class of the embedded model in six steps; `test_two_processes` starts it alone and as a launch of two.

Usage: two_processes.py IMAGES OUT [PART]
"""

import sys

import torch

from clip_unlearn.core.processes import is_main
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.training import Descent
from clip_unlearn.data.open import open_data
from clip_unlearn.methods.cliperase import Cliperase
from clip_unlearn.models.open import open_model


def main(where: str, out: str, part: str = "") -> None:
    """Save the patch that forgets mugs, from the main process."""
    torch.set_num_threads(1)
    images = open_data(where)
    evidence = Evidence(where=images.where, digest=images.digest)
    request = Request(forget=(Concept(name="mug"),), evidence=evidence)
    # Batches of odd sizes: the last process has one input less.
    descent = Descent(
        steps=6, rate=3e-3, forget_batch=7, retain_batch=11, check_every=3, part=int(part) if part else None
    )
    patch = Cliperase(descent=descent).forget(open_model("sandbox"), request)
    if is_main():
        patch.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
