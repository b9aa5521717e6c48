"""Measure what each part of `lip` is good for: one setting changed at a time, on a few classes of the sandbox.

    python benchmarks/lip_ablation.py [--report]

Every run is written as it ends, to benchmarks/results/lip_ablation.json; what is there is not run again. Then
lip_ablation.md and lip_ablation.svg are made from all of it. Same requests and pictures as benchmarks/lip_sandbox.py;
one seed. Real pictures are those of the `select` stream, and all are measured on the `audit` stream.
"""

import argparse
from collections.abc import Mapping
from functools import partial

from lip_ablation_report import figure, table
from lip_runs import RESULTS, Row, one, open_bed, opened, record
from lip_sandbox import SOME

from clip_unlearn.core.method import Method
from clip_unlearn.files import atomic
from clip_unlearn.methods.lip import Lip
from clip_unlearn.methods.lip_paper import LipPaper

PATH = RESULTS / "lip_ablation.json"
COMMAND = "python benchmarks/lip_ablation.py"
CLASSES = SOME[:4]
PAPER = LipPaper(pictures=16, stop_pictures=8, draws=5)
VARIANTS: Mapping[str, Method] = {
    "lip, defaults": Lip(),
    "image tower": Lip(towers="image"),
    "text tower": Lip(towers="text"),
    "real pictures": Lip(source="real"),
    "selection by mean gradient": Lip(selection="mean"),
    "all tensors": Lip(selection="all"),
    "1 noise draw": Lip(noise_draws=1),
    "10 noise draws": Lip(noise_draws=10),
    "4 pictures": Lip(pictures=4),
    "8 pictures": Lip(pictures=8),
    "32 pictures": Lip(pictures=32),
    "beyond 0": Lip(beyond=0.0),
    "beyond 0.5": Lip(beyond=0.5),
    "settle 0": Lip(settle=0),
    "hold 1": Lip(hold=1.0),
    "hold 50": Lip(hold=50.0),
    "lip_paper": PAPER,
    "lip_paper, step size 3e-3": LipPaper(**{**PAPER.model_dump(), "learning_rate": 3e-3}),
}
"""One change each from the defaults (both towers, synthetic pictures, selection by gain, 3 draws, 16 pictures, beyond
0.25, settle 2, hold 10); the published method with fewer pictures and draws, which cost most of its time."""


def main() -> None:
    """Run what is missing and write all files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="make table and figure from what is there")
    if not parser.parse_args().report:
        bed = open_bed("sandbox")
        for name in CLASSES:
            for label, method in VARIANTS.items():
                compute = partial(one, bed, name, method, 0, real=label == "real pictures")
                record(PATH, COMMAND, f"{label}: {name}", partial(labelled, label, compute))
    found: Row = opened(PATH)
    settings = {label: method.model_dump(mode="json") for label, method in VARIANTS.items()}
    atomic.write_json(PATH, {**found, "settings": settings})
    atomic.write_text(RESULTS / "lip_ablation.md", table(found, list(VARIANTS)))
    atomic.write_text(RESULTS / "lip_ablation.svg", figure(found, list(VARIANTS)))


def labelled(label: str, compute: "partial[Row]") -> Row:
    """Return the run with the variant that it is of."""
    return {"variant": label, **compute()}


if __name__ == "__main__":
    main()
