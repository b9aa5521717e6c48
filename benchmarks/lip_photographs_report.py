"""The table of benchmarks/lip_photographs.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from clip_unlearn.maths.intervals import mean_interval

Run = Mapping[str, Any]

HEADER = (
    "| model, data | method | classes, seeds | forget | worst class | rest | other data | held-out names "
    "| image tower alone | seed spread: forget, rest | seconds | nothing changed |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)


INTRODUCTION = (
    "Ten classes of each data set, evenly spaced in alphabetical order, one at a time, at defaults: nothing is",
    "set by class. Asked by their own name with the prompt of a photo, all classes of the data set as candidates.",
    "Accuracy in %, mean over classes, before → after; changes in points with the 95 % t interval over classes",
    "(the mean over seeds is one value per class). Rest: 500 images of the other classes and those of the nine",
    "others of the ten; other data: 500 images of another data set. Held-out names: other names of the class that",
    "neither the model's training nor the method saw, where at least 30 % of the images were recognised by them",
    "before. Image tower alone: the edited image tower with the original text tower. Seed spread: mean over",
    "classes of the largest difference between seeds, in points.",
)


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = [run for run in found["runs"].values()]
    groups = list(dict.fromkeys((run["model"], run["data"], run["method"]) for run in runs))
    lines = [
        "# `lip` on real photographs",
        "",
        *INTRODUCTION,
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
        *HEADER,
        *(_row([run for run in runs if (run["model"], run["data"], run["method"]) == group]) for group in groups),
        "",
        "`lip_paper`: the published constants with 16 pictures, 8 more to stop by, and 5 draws of noise instead of 25.",
        "`lip, text tower` and `lip, hold 50`: one setting changed, where defaults cost other data over a point.",
        "",
        "## Class by class",
        "",
        "Images recognised, before → after of how many, seed by seed.",
        "",
        "| model, data | method | class | forget | rest | other data | held-out name |",
        "|---|---|---|---|---|---|---|",
        *(line for group in groups for line in _classes(runs, group)),
    ]
    return "\n".join(lines) + "\n"


def _row(runs: Sequence[Run]) -> str:
    done = [run for run in runs if "failed" not in run]
    where = f"{runs[0]['model']}, {runs[0]['data']} | `{runs[0]['method']}`"
    names = dict.fromkeys(run["class"] for run in runs)
    seeds = len({run["seed"] for run in runs})
    if not done:
        return f"| {where} | {len(names)}, {seeds} | no picture was made in any run | | | | | | | | |"
    forget, alone = ([_share(run, "after", what) for run in done] for what in ("forget", "image tower alone"))
    asked = [pair for run in done for pair in _asked(run)]
    spread = ", ".join(_spread(done, what) for what in ("forget", "rest"))
    seconds = sorted(run["seconds"] for run in done)
    untouched = sum(bool(run["reason"]) for run in done)
    failed = len(runs) - len(done)
    cells = [
        f"{len(names)}, {seeds}",
        f"{_mean(done, 'before', 'forget')} → {_mean(done, 'after', 'forget')}",
        f"{100 * max(forget):.0f}",
        _change(done, "rest"),
        _change(done, "other"),
        _names(asked),
        f"{_mean(done, 'before', 'forget')} → {100 * sum(alone) / len(alone):.1f}",
        spread,
        f"{seconds[len(seconds) // 2]:.0f}",
        f"{untouched} of {len(done)}" + (f"; {failed} without pictures" if failed else ""),
    ]
    return f"| {where} | {' | '.join(cells)} |"


def _classes(runs: Sequence[Run], group: tuple[str, str, str]) -> list[str]:
    own = [run for run in runs if (run["model"], run["data"], run["method"]) == group]
    lines = []
    for name in dict.fromkeys(run["class"] for run in own):
        some = [run for run in own if run["class"] == name]
        cells = [_counts(some, what) for what in ("forget", "rest", "other")]
        asked = [what for what in some[0].get("after", {}) if what.startswith("name: ")]
        cells.append("; ".join(f"{what.removeprefix('name: ')} {_counts(some, what)}" for what in asked))
        lines.append(f"| {group[0]}, {group[1]} | `{group[2]}` | {name} | {' | '.join(cells)} |")
    return lines


def _counts(runs: Sequence[Run], what: str) -> str:
    done = [run for run in runs if "failed" not in run]
    if not done:
        return "no pictures"
    before, count = done[0]["before"][what]
    return f"{before} → {', '.join(str(run['after'][what][0]) for run in done)} of {count}"


def _share(run: Run, when: str, what: str) -> float:
    hits, count = run[when][what]
    return float(hits) / float(count)


def _by_class(runs: Sequence[Run], what: str) -> list[float]:
    """Return the change of each class, the mean over its seeds."""
    changes: dict[str, list[float]] = {}
    for run in runs:
        changes.setdefault(run["class"], []).append(_share(run, "after", what) - _share(run, "before", what))
    return [sum(values) / len(values) for values in changes.values()]


def _mean(runs: Sequence[Run], when: str, what: str) -> str:
    return f"{100 * sum(_share(run, when, what) for run in runs) / len(runs):.1f}"


def _change(runs: Sequence[Run], what: str) -> str:
    changes = _by_class(runs, what)
    low, high = mean_interval(changes)
    change = 100 * sum(changes) / len(changes)
    return f"{_mean(runs, 'before', what)}; {change:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def _asked(run: Run) -> list[tuple[float, float]]:
    names = [what for what in run["after"] if what.startswith("name: ")]
    pairs = [(_share(run, "before", what), _share(run, "after", what)) for what in names]
    return [pair for pair in pairs if pair[0] >= 0.3]


def _names(asked: Sequence[tuple[float, float]]) -> str:
    if not asked:
        return ""
    before, after = (100 * sum(pair[side] for pair in asked) / len(asked) for side in (0, 1))
    return f"{before:.1f} → {after:.1f} (n = {len(asked)})"


def _spread(runs: Sequence[Run], what: str) -> str:
    by_class: dict[str, list[float]] = {}
    for run in runs:
        by_class.setdefault(run["class"], []).append(_share(run, "after", what))
    several = [max(values) - min(values) for values in by_class.values() if len(values) > 1]
    return f"{100 * sum(several) / len(several):.1f}" if several else "–"
