"""What `lip.py` measured, as entries and as Markdown."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

BARE = "bare passes"
UNITS = {
    "equal steps": "picture-steps per second, every picture taking every step",
    "to acceptance": "pictures per second, each variant by its own rule of acceptance",
    "forgetting": "epochs per second, pictures given",
    "batch size": "forward and backward passes of a picture per second, by how many are in a batch",
}


def found_of(model: str, threads: int, stage: str, rates: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    """Return one entry for every variant: its rates, and its ratios to the first variant and to the bare passes."""
    entries = []
    for name, own in rates.items():
        entry: dict[str, object] = {"model": model, "threads": threads, "stage": stage, "variant": name, "n": len(own)}
        entry |= {"rate": spread(own), "ratio": spread(divided(own, next(iter(rates.values()))))}
        if BARE in rates:
            entry["share"] = spread(divided(own, rates[BARE]))
        entries.append(entry)
    return entries


def divided(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of every round."""
    return [first / second for first, second in zip(above, below, strict=True)]


def spread(values: Sequence[float]) -> list[float]:
    """Return median, least and greatest."""
    return [median(values), min(values), max(values)]


def shown(values: Sequence[float], digits: int = 2) -> str:
    """Return a median with its range."""
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{middle} ({low} to {high})"


def table(found: Mapping[str, Any]) -> str:
    """Return everything as Markdown."""
    sizes = "; ".join(
        f"{name}: batches of {size['pictures']}, {size['steps']} steps, {size['literal pictures']} by the literal loop "
        "in a round"
        for name, size in found["sizes"].items()
    )
    lines = [
        "# Speed and memory of Lip against the published procedure",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}; load average {found['load']['before'][0]:.1f} "
        f"before and {found['load']['after'][0]:.1f} after, other work included. Version {found['version']}, "
        f"torch {found['libraries'].get('torch', '?')}.",
        "",
        "Median of n rounds in which all variants of a table run in turn, range in brackets; a ratio is taken within a",
        f"round. {sizes}.",
        "",
        *NOTES,
    ]
    for stage, unit in UNITS.items():
        lines += ["", f"## {stage.capitalize()}", "", f"Rates are {unit}.", ""]
        lines += _stage([entry for entry in found["rates"] if entry["stage"] == stage], shares=stage == "equal steps")
    lines += ["", "## Memory", "", "Peak of a process of its own, one thread, in MiB.", ""]
    lines += ["| model | stage | variant | peak | beyond the opened model |", "|---|---|---|---|---|"]
    opened = {entry["model"]: entry["peak"] for entry in found["memory"] if entry["stage"] == "opened"}
    for entry in found["memory"]:
        beyond = entry["peak"] - opened[entry["model"]]
        lines.append(
            f"| {entry['model']} | {entry['stage']} | {entry['variant']} | {entry['peak']:.0f} | {beyond:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _stage(entries: Sequence[Mapping[str, Any]], *, shares: bool) -> list[str]:
    head = "| model | threads | variant | n | rate | ratio to the first |" + (
        " share of the bare passes |" if shares else ""
    )
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for entry in entries:
        line = f"| {entry['model']} | {entry['threads']} | {entry['variant']} | {entry['n']} | {shown(entry['rate'])} "
        line += f"| {shown(entry['ratio'])} |"
        lines.append(line + (f" {shown(entry['share'])} |" if shares else ""))
    return lines


NOTES = (
    "- `literal` makes one picture at a time, with two forward passes a step and the gradients of all weights; its",
    "  class list is given, as ours. `climb` with a look after every step makes the same pictures; `ascend` is what",
    "  `lip` and `synthesize` use, which looks every third step. Models below 5 million weights are computed with one",
    "  thread by our ascents whatever is set; the bare passes and the literal loop take the threads that are set.",
    "- The bare passes are the forward pass and the gradient by the pixels alone, of the same batch.",
    "- The literal forgetting encodes the class list name by name and sentence by sentence, judges picture by picture,",
    "  copies the whole model before every epoch and takes gradients of all weights. It also runs clean and perturbed",
    "  pictures one by one, the perturbed ones with a graph, where the published procedure takes batches of 64.",
    "  The second variant runs clean pictures and every draw of noise in one batch each, the latter without a graph;",
    "  ours against it is what re-encoding, judging one by one, copying and gradients of all weights cost.",
    "- Forgetting: 8 pictures, 4 to judge by, 5 draws of noise, 2 epochs.",
)
