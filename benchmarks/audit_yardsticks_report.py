"""The table of `audit_yardsticks.py`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from clip_unlearn.core.anamnesis import INDEX
from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.record import NOVEL, NOVEL_ACCURACY
from clip_unlearn.core.recovery import RATIO
from clip_unlearn.maths.intervals import wilson
from clip_unlearn.runs.novel import UNKNOWN

Run = Mapping[str, Any]

QUICK: Final = {
    "as asked": "forget accuracy",
    "wordings": f"{WORST}wording accuracy",
    "ensemble": "ensemble accuracy",
    "vocabulary": f"{WORST}vocabulary accuracy",
    "W1 image refit": f"{WORST}image refit accuracy",
    "W11 text refit": f"{WORST}text refit accuracy",
    "W12 revert": f"{WORST}module revert accuracy",
    "W2 inversion": f"{WORST}recipe inversion accuracy",
    "others": "retain accuracy",
}
STANDARD: Final = {
    "W5 fine-tuning": f"{WORST}fine-tuning accuracy",
    "W6 rounding": f"{WORST}rounding accuracy",
    "W7 way back": f"{WORST}interpolation accuracy",
    "W8 lens": f"{WORST}layer lens accuracy",
    "K1, 1 image": "1-shot probe accuracy, embedding",
    "K2, 1 image": "1-shot prototype accuracy",
    "K3, 1 image": "1-shot soft prompt accuracy",
    "K5 steps": "5-shot relearning steps",
}
RATIOS: Final = (RATIO, INDEX)
FEW: Final = {
    "as asked": "forget accuracy",
    "K1, 1 image": "1-shot probe accuracy, embedding",
    "K1, 5 images": "5-shot probe accuracy, embedding",
    "K2, 1 image": "1-shot prototype accuracy",
    "K2, 5 images": "5-shot prototype accuracy",
    "K3, 1 image": "1-shot soft prompt accuracy",
    "K3, 5 images": "5-shot soft prompt accuracy",
    "K5 steps": "5-shot relearning steps",
}
WITHIN: Final = 2.0
"""Times the estimate, either way, that an audit may take."""

LEAST: Final = 1.0
"""Seconds under which a ratio of times says nothing."""


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = list(found["runs"].values())
    taught = " or ".join(str(count) for count in sorted({one.get("taught", 8) for one in runs}))
    lines = [
        "# Audits of edits of real models on photographs",
        "",
        "Classes of Caltech101, one request each; methods at their defaults, `cliperase` in the last text layer;",
        f"15 test images of each class to measure on, {taught} of each to learn from. Each cell: images of the class",
        "recognised, in %, in the worst form where an attack has several, with the Wilson interval over classes and",
        "images; original without the attack; control: the attack on the original with the name hidden in its last",
        "layer. With 15 images no grade above *inconclusive* can be given: the upper end of 0 of 15 is 20 %.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
    ]
    for suite, columns in (("quick", QUICK), ("standard", QUICK | STANDARD)):
        for model in dict.fromkeys(one["model"] for one in runs):
            own = [one for one in runs if (one["model"], one["suite"]) == (model, suite)]
            if own:
                lines += ["", *_suite(model, suite, own, columns)]
    for model in dict.fromkeys(one["model"] for one in runs):
        if own := [one for one in runs if (one["model"], one["suite"]) == (model, "few")]:
            lines += ["", *_few(model, own)]
    lines += ["", "## Time", "", *_times(runs)]
    return "\n".join(lines) + "\n"


def _suite(model: str, suite: str, runs: Sequence[Run], columns: Mapping[str, str]) -> Iterator[str]:
    classes = list(dict.fromkeys(one["class"] for one in runs))
    yield f"## {model}, {suite}: {', '.join(classes)}"
    yield ""
    yield f"| edit | grades | {' | '.join(columns)} |"
    yield f"|---|---|{'---|' * len(columns)}"
    first = [one for one in runs if one["method"] == runs[0]["method"]]
    for label, subject in (("*original*", "before"), ("*control*", "control")):
        yield f"| {label} |  | {' | '.join(_cell(first, name, subject) for name in columns.values())} |"
    for method in dict.fromkeys(one["method"] for one in runs):
        own = [one for one in runs if one["method"] == method]
        grades = ", ".join(one["grade"] for one in own)
        yield f"| {method} | {grades} | {' | '.join(_cell(own, name, 'after') for name in columns.values())} |"


def _few(model: str, runs: Sequence[Run]) -> Iterator[str]:
    """Yield the table of attacks that are shown images of the class, beside classes that are new to the model."""
    known = {(of, value, n) for one in runs for name, _, of, value, n, *_ in one["readings"] if name == NOVEL_ACCURACY}
    new = sorted({(of.removeprefix(NOVEL), n) for of, value, n in known if value <= UNKNOWN})
    yield f"## {model}, shown the class: {', '.join(dict.fromkeys(one['class'] for one in runs))}"
    yield ""
    yield f"Beside {len(new)} classes that the original names in at most {UNKNOWN:.0%} of their images:"
    yield f"{', '.join(f'{name} ({count} images)' for name, count in new)}."
    yield "In brackets the recovery ratio, the mean over the classes to forget that have one, and how many have one."
    yield ""
    yield f"| edit | {' | '.join(FEW)} |"
    yield f"|---|{'---|' * len(FEW)}"
    first = [one for one in runs if one["method"] == runs[0]["method"]]
    yield f"| *original* | {' | '.join(_cell(first, name, 'before') for name in FEW.values())} |"
    yield f"| *new classes* | {' | '.join(_beside(first, name) for name in FEW.values())} |"
    for method in dict.fromkeys(one["method"] for one in runs):
        own = [one for one in runs if one["method"] == method]
        yield f"| {method} | {' | '.join(_with_ratio(own, name) for name in FEW.values())} |"


def _with_ratio(runs: Sequence[Run], name: str) -> str:
    cell = _cell(runs, name, "after")
    found = [value for one in runs for what, _, of, value, *_ in one["readings"] if what in RATIOS and of == name]
    return f"{cell} [{sum(found) / len(found):.2f}; {len(found)}]" if found else cell


def _beside(runs: Sequence[Run], name: str) -> str:
    """Return the mean of new classes, and the least and the largest of one class."""
    found: dict[str, list[float]] = {}
    for one in runs:
        for what, who, of, value, *_ in one["readings"]:
            if (what, who) == (name, "reference"):
                found.setdefault(of, []).append(value)
    means = [sum(own) / len(own) for own in found.values()]
    if not means:
        return ""
    scale = 1 if name.endswith("steps") else 100
    least, mean, most = (scale * one for one in (min(means), sum(means) / len(means), max(means)))
    return f"{mean:.0f} ({least:.0f} to {most:.0f})"


def _cell(runs: Sequence[Run], name: str, subject: str) -> str:
    values = [
        max(found, key=lambda pair: float(pair[0]))
        for one in runs
        if (found := [(v, n) for key, who, _, v, n, *_ in one["readings"] if (key, who) == (name, subject)])
    ]
    if not values:
        return ""
    if name.endswith("steps"):
        return f"{sum(value for value, _ in values) / len(values):.0f}"
    hits, count = sum(value * n for value, n in values), sum(n for _, n in values)
    low, high = wilson(hits, count)
    return f"{100 * hits / count:.0f} ({100 * low:.0f} to {100 * high:.0f})"


def _times(runs: Sequence[Run]) -> Iterator[str]:
    yield "Seconds of each audit, mean over the runs of a suite on a model, and in brackets the least and the largest"
    yield f"ratio to what was estimated before it began; audits that took and were to take under {LEAST:g} s have none."
    yield "Runs on the first class alone, which began with an empty cache. The share in towers is what the forward"
    yield "passes of both towers take of the whole."
    yield ""
    runs = [one for one in runs if one.get("empty")]
    columns = list(dict.fromkeys((one["model"], one["suite"]) for one in runs))
    yield f"| audit | {' | '.join(f'{model}, {suite}' for model, suite in columns)} |"
    yield f"|---|{'---|' * len(columns)}"
    groups = [[one for one in runs if (one["model"], one["suite"]) == column] for column in columns]
    yield f"| whole suite | {' | '.join(_whole(own) for own in groups)} |"
    yield f"| share in towers | {' | '.join(_share(own) for own in groups)} |"
    for audit in dict.fromkeys(name for one in runs for name in one["each"]):
        yield f"| `{audit}` | {' | '.join(_time(own, audit) for own in groups)} |"
    ratios = [ratio for one in runs for audit in one["each"] if (ratio := _ratio(one, audit)) is not None]
    good = sum(1 / WITHIN <= ratio <= WITHIN for ratio in ratios)
    yield ""
    yield f"{good} of {len(ratios)} audits took between half and twice what was estimated."


def _whole(runs: Sequence[Run]) -> str:
    ratios = [sum(one["each"].values()) / sum(one["estimated"].values()) for one in runs]
    mean = sum(one["seconds"] for one in runs) / len(runs)
    return f"{mean:.0f} ({min(ratios):.1f} to {max(ratios):.1f})"


def _share(runs: Sequence[Run]) -> str:
    return f"{100 * sum(one['in towers'] for one in runs) / sum(one['seconds'] for one in runs):.0f} %"


def _time(runs: Sequence[Run], audit: str) -> str:
    times = [one["each"][audit] for one in runs if audit in one["each"]]
    if not times:
        return ""
    ratios = [ratio for one in runs if (ratio := _ratio(one, audit)) is not None]
    ends = f" ({min(ratios):.1f} to {max(ratios):.1f})" if ratios else ""
    return f"{sum(times) / len(times):.1f}{ends}"


def _ratio(run: Run, audit: str) -> float | None:
    took, said = run["each"].get(audit), run["estimated"].get(audit)
    undefined = audit in [name for name, _ in run["skipped"]]
    if took is None or said is None or undefined or max(took, said) < LEAST:
        return None
    return float(took) / max(float(said), 1e-3)
