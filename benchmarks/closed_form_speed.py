"""Time `ccup` with text embeddings given, against the bare factorisations that it needs.

    python benchmarks/closed_form_speed.py

1,000 classes x 80 templates, d = 768, and growth with classes and with d. The floor is, in float64: the mean over
templates, one Cholesky factorisation of the smaller of n and d, one of m, and their solves. Results:
benchmarks/results/closed_form_speed.{json,md}. Both are run in turn, the median of 7 rounds is reported with its range.
"""

import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from clip_unlearn.files import atomic
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.maths.vectors import mean_unit_rows, unit

RESULTS = Path(__file__).parent / "results"
ROUNDS, TEMPLATES = 7, 80
CASES = ((1000, 768), (250, 768), (500, 768), (2000, 768), (1000, 256), (1000, 512), (1000, 1024))


def rows(embeddings: Tensor) -> Tensor:
    """Return one unit row per class, the mean over the templates, as the methods make them."""
    return unit(mean_unit_rows(embeddings, TEMPLATES))


def ours(embeddings: Tensor) -> Tensor:
    """Return the edit that forgets the first class and holds the others."""
    return edit_of(rows(embeddings))


def edit_of(names: Tensor) -> Tensor:
    """Return the edit that forgets the first class and holds the others, the row means given."""
    edit = ridge_edit(names[:1], torch.zeros_like(names[:1]), names[1:], forget_weight=1e6, retain_weight=1000.0)
    return edit.on_scores().up


def floor(embeddings: Tensor) -> Tensor:
    """Return the bare computation: row means and two factorisations with their solves."""
    return factorised(mean_unit_rows(embeddings, TEMPLATES))


def factorised(names: Tensor) -> Tensor:
    """Return the two factorisations with their solves alone, the row means given."""
    held = names[1:]
    system = held.T @ held if len(held) >= held.shape[1] else held @ held.T
    factor = torch.linalg.cholesky(system + torch.eye(len(system), dtype=torch.float64))
    start = names[:1].T if len(held) >= held.shape[1] else held @ names[:1].T
    reach = torch.cholesky_solve(start, factor)
    return torch.cholesky_solve(reach.T, torch.linalg.cholesky(torch.ones(1, 1, dtype=torch.float64)))


def seconds(work: Callable[[Tensor], Tensor], embeddings: Tensor) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    work(embeddings)
    return time.perf_counter() - start


def case(classes: int, width: int) -> dict[str, float]:
    """Return medians and ranges of one size, the two timed in turn."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(classes * TEMPLATES, width, generator=generator)
    pairs = [(seconds(ours, embeddings), seconds(floor, embeddings)) for _ in range(ROUNDS + 1)][1:]
    ratios = [first / second for first, second in pairs]
    mine = [first for first, _ in pairs]
    names = rows(embeddings)
    solves = [(seconds(edit_of, names), seconds(factorised, names)) for _ in range(ROUNDS + 1)][1:]
    return {
        "classes": classes,
        "d": width,
        "ours": median(mine),
        "ours low": min(mine),
        "ours high": max(mine),
        "floor": median(second for _, second in pairs),
        "solve": median(first for first, _ in solves),
        "factorisations": median(second for _, second in solves),
        "solve ratio": median(first / second for first, second in solves),
        "ratio": median(ratios),
        "ratio low": min(ratios),
        "ratio high": max(ratios),
    }


def table(found: list[dict[str, float]]) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Speed of `ccup`, text embeddings given",
        "",
        f"{TEMPLATES} templates per class, float64; median of {ROUNDS} rounds, range in brackets. The floor is the",
        "bare row means, factorisations and solves. Command: `python benchmarks/closed_form_speed.py`. Machine: "
        f"{platform.machine()}, {torch.get_num_threads()} threads.",
        "",
        "Row means given: the edit against its factorisations and solves alone.",
        "",
        "| classes | d | edit, s | floor, s | ratio | row means given, s | factorisations alone, s | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        lines.append(
            f"| {one['classes']:.0f} | {one['d']:.0f} | {one['ours']:.3f} ({one['ours low']:.3f} to "
            f"{one['ours high']:.3f}) | {one['floor']:.3f} | {one['ratio']:.2f} ({one['ratio low']:.2f} to "
            f"{one['ratio high']:.2f}) | {one['solve']:.4f} | {one['factorisations']:.4f} | {one['solve ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write both files."""
    found = [case(*sizes) for sizes in CASES]
    atomic.write_json(RESULTS / "closed_form_speed.json", found)
    atomic.write_text(RESULTS / "closed_form_speed.md", table(found))
    sys.stdout.write(table(found))


if __name__ == "__main__":
    main()
