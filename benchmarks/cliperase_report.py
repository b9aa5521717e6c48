"""The table and the figure of benchmarks/cliperase.py. No measuring."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lip_figures import GREY, document, text

from clip_unlearn.maths.intervals import mean_interval, wilson

Run = Mapping[str, Any]
COLOURS = ("#0b6e4f", "#2fa37c", "#8fd4b8", "#555555", "#3465a4", "#c05a2b", "#8f5902")
HEADER = (
    "| method | runs | forget | rest | against fine-tuning | other data | held out | seconds | nothing changed |",
    "|---|---|---|---|---|---|---|---|---|",
)
INTRODUCTION = (
    "Every method at its defaults, learning from the train pack of CIFAR-100 and measured on the test pack: all",
    "images of the forgotten classes, 500 of the others, all classes of the data set as candidates, asked by",
    "their own names. Last layers: `descent.depth=readout`, of the text tower alone `descent.towers=text`, with",
    "`descent.steps=300`, `descent.retain_batch=128`, and for `cliperase` `descent.rate=0.01` and `floor=neutral`; the",
    "rates of the others are the best of three on the sandbox (defaults.md). Whole encoders: first draw alone.",
    "Accuracy in %, before → after, over all images of all runs of a row, with the Wilson interval of the second.",
    "Rest and other data (500 images of Caltech101): paired over runs, in points, with the 95 % t interval over",
    "runs where there are several, which draw other classes. Against fine-tuning: rest less that of `fine_tune` of",
    "the same layers on the same data and draw, the matched reference. Held out: images of the train pack that the",
    "best state was chosen by. Nothing changed: runs whose patch is empty, with the reasons below.",
)
PANELS = (("forget", "forgotten, %"), ("rest", "rest, %"), ("other", "other data, %"))
PLOTTED = (
    "cliperase",
    "cliperase, last layers",
    "cliperase, last text layer",
    "fine_tune, last layers",
    "graddiff, last text layer",
    "ga, last text layer",
    "redirect",
)


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = list(found["runs"].values())
    lines = ["# Forgetting classes of CIFAR-100 with images", "", *INTRODUCTION, ""]
    lines += [f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.", ""]
    for model, share in dict.fromkeys((run["model"], run["share"]) for run in sorted(runs, key=_place)):
        some = [run for run in runs if (run["model"], run["share"]) == (model, share)]
        number = len(some[0]["classes"])
        lines += [f"## {model}, {number} of its classes{_percent(share)}", "", *HEADER]
        lines += [_row(own, some) for own in _by_method(some).values()]
        lines.append("")
    reasons = dict.fromkeys(f"- {run['method']}: {run['reason']}" for run in runs if run["reason"])
    return "\n".join([*lines, *reasons]) + "\n"


def figure(found: Mapping[str, Any]) -> str:
    """Return accuracy on the forgotten, the rest and other data by the share of classes forgotten, as SVG."""
    runs = list(found["runs"].values())
    models = list(dict.fromkeys(run["model"] for run in runs))
    parts = [part for place, model in enumerate(models) for part in _panels(place, model, runs)]
    return document(1020, 12 * len(models), parts)


def _place(run: Run) -> tuple[str, float]:
    return (run["model"], run["share"])


def _percent(share: float) -> str:
    return f" ({100 * share:.0f} %)" if share else ""


def _by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run["method"], []).append(run)
    return groups


def _row(own: Sequence[Run], all_runs: Sequence[Run]) -> str:
    reference = "fine_tune, last layers" if "last" in own[0]["method"] else "fine_tune"
    tuned = {run["seed"]: run for run in all_runs if run["method"] == reference}
    matched = [
        _share(run, "after", "rest") - _share(tuned[run["seed"]], "after", "rest")
        for run in own
        if run["seed"] in tuned
    ]
    hits, count = (sum(run["after"]["forget"][part] for run in own) for part in (0, 1))
    low, high = wilson(hits, count)
    clock, processor = (sum(run[kind] for run in own) / len(own) for kind in ("seconds", "processor seconds"))
    cells = [
        f"`{own[0]['method']}`",
        str(len(own)),
        f"{_mean(own, 'before', 'forget')} → {100 * hits / count:.1f} ({100 * low:.1f} to {100 * high:.1f})",
        f"{_mean(own, 'before', 'rest')}; {_points([_moved(run, 'rest') for run in own])}",
        _points(matched) if matched else "",
        f"{_mean(own, 'before', 'other')}; {_points([_moved(run, 'other') for run in own])}",
        _held_out(own[0]),
        f"{clock:.0f} / {processor:.0f}",
        f"{sum(bool(run['reason']) for run in own)} of {len(own)}",
    ]
    return f"| {' | '.join(cells)} |"


def _share(run: Run, subject: str, what: str) -> float:
    hits, count = run[subject][what]
    return float(hits) / float(count)


def _moved(run: Run, what: str) -> float:
    return _share(run, "after", what) - _share(run, "before", what)


def _mean(runs: Sequence[Run], subject: str, what: str) -> str:
    return f"{100 * sum(_share(run, subject, what) for run in runs) / len(runs):.1f}"


def _points(changes: Sequence[float]) -> str:
    mean = 100 * sum(changes) / len(changes)
    if len(changes) < 2:
        return f"{mean:+.1f}"
    low, high = mean_interval(list(changes))
    return f"{mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _held_out(run: Run) -> str:
    after = [f"{100 * value:.0f}" for _, subject, value, _ in run["held out"] if subject == "after"]
    return ", ".join(after)


def _panels(place: int, model: str, runs: Sequence[Run]) -> Iterator[str]:
    for number, (what, title) in enumerate(PANELS):
        x, y = 60 + 270 * number, 40 + 216 * place
        yield text(x, y - 14, f"{model}: {title}", bold=True)
        yield f'<line x1="{x}" y1="{y + 150}" x2="{x + 220}" y2="{y + 150}" stroke="{GREY}"/>'
        for level in (0, 50, 100):
            yield text(x - 8, y + 154 - 1.5 * level, str(level), anchor="end")
        for share in sorted({run["share"] for run in runs}):
            yield text(x + _across(share), y + 166, f"{100 * share:.0f} %" if share else "one", anchor="middle")
        for colour, method in zip(COLOURS, PLOTTED, strict=True):
            own = [run for run in runs if (run["model"], run["method"]) == (model, method)]
            yield from _curve(own, what, colour, x, y)
            if number == len(PANELS) - 1 and own:
                yield _label(method, colour, x + 228, y + 12 + 14 * PLOTTED.index(method))


def _across(share: float) -> float:
    return 10 + 660 * share


def _curve(runs: Sequence[Run], what: str, colour: str, x: float, y: float) -> Iterable[str]:
    shares = sorted({run["share"] for run in runs})
    points = []
    for share in shares:
        values = [_share(run, "after", what) for run in runs if run["share"] == share]
        points.append((x + _across(share), y + 150 - 150 * sum(values) / len(values)))
        yield from (
            f'<circle cx="{x + _across(share):.1f}" cy="{y + 150 - 150 * value:.1f}" r="2.5" fill="{colour}"/>'
            for value in values
        )
    line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
    yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _label(method: str, colour: str, x: float, y: float) -> str:
    return text(x, y, method).replace("<text", f'<text fill="{colour}"', 1)
