"""The tables of benchmarks/lip_sandbox.py, and figures of runs that other reports share. No measuring."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clip_unlearn.maths.average_score import Outcome, average_score
from clip_unlearn.maths.intervals import independent_difference, mean_interval, paired_difference, wilson

Row = dict[str, Any]
WORKED = 0.3
"""Share of the pictures that a name finds before, from which on it counts as known to the model."""

MOST_FORGET, MOST_REST, MOST_SECONDS = 10.0, 3.0, 60.0
"""What was asked for: forget accuracy in %, points that the rest may lose, seconds of the whole command."""


def outcome(row: Row, group: str) -> Outcome:
    """Return the counts of one group of pictures."""
    return Outcome(**row[group])


def left(row: Row, group: str = "forget") -> float:
    """Return the accuracy after the edit, in percent."""
    one = outcome(row, group)
    return 100 * one.after / one.count


def change(row: Row, group: str = "rest") -> float:
    """Return the change of accuracy, in points."""
    one = outcome(row, group)
    return 100 * (one.gained - one.lost) / one.count


def score(row: Row) -> float:
    """Return the average score over the class and the rest."""
    return average_score(outcome(row, "forget"), [outcome(row, "rest")])


def synthetic(row: Row, subject: str = "after") -> tuple[int, int] | None:
    """Return how many of how many held-out synthetic pictures are recognised, by all names; None where none were made.

    Of `lip` every picture counts once for each name of the request.
    """
    for name, of, value, count in row["synthetic"]:
        if (name, of) == ("synthetic forget accuracy", subject):
            return round(value * count), count
    return None


def other_names(row: Row) -> dict[str, float]:
    """Return the accuracy after the edit by every other name that found enough pictures before, in percent."""
    found = {name: Outcome(**counts) for name, counts in row["other names"].items()}
    return {name: 100 * one.after / one.count for name, one in found.items() if one.before >= WORKED * one.count}


def mean(values: Sequence[float]) -> float:
    """Return the mean, not a number of nothing."""
    return sum(values) / len(values) if values else float("nan")


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Return the mean with its 95 % t interval over classes."""
    low, high = mean_interval(list(values))
    return f"{mean(values):{form}} ({low:{form}} to {high:{form}})"


def percent(hits: int, count: int) -> str:
    """Return a share in percent with its Wilson interval."""
    low, high = wilson(hits, count)
    return f"{100 * hits / count:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def by_key(found: Row) -> Mapping[tuple[str, str, int], Row]:
    """Return the runs by model, class and seed, in the order in which they were made."""
    rows = [row for row in found["runs"].values() if "class" in row]
    return {(row["model"], row["class"], row["seed"]): row for row in rows}


def first_seed(found: Row) -> list[Row]:
    """Return the runs of every class of the sandbox, at the first seed."""
    return [row for (model, _, seed), row in by_key(found).items() if (model, seed) == ("sandbox", 0)]


def codes(found: Row) -> str:
    """Return the digests of the code that was measured; more than one if it was changed on the way."""
    return "code " + ", ".join(dict.fromkeys(row["code"] for row in found["runs"].values()))


def class_line(row: Row) -> str:
    """Return the line of one class."""
    forget, rest, made = outcome(row, "forget"), outcome(row, "rest"), synthetic(row)
    low, high = paired_difference(rest.gained, rest.lost, rest.count)
    cells = [row["class"], percent(forget.after, forget.count)]
    cells.append(f"{change(row):+.2f} ({100 * low:+.2f} to {100 * high:+.2f})")
    if made is None:
        cells += ["–", "–"]
    else:
        ends = independent_difference((forget.after, forget.count), made)
        apart = 100 * (forget.after / forget.count - made[0] / made[1])
        cells += [f"{made[0]}/{made[1]}", f"{apart:+.0f} ({100 * ends[0]:+.0f} to {100 * ends[1]:+.0f})"]
    named = other_names(row)
    cells.append(", ".join(f"{name} {value:.0f}" for name, value in named.items()) or "–")
    cells += [f"{left(row, 'image tower alone'):.0f} / {left(row, 'text tower alone'):.0f}", f"{score(row):.3f}"]
    cells += [str(len(row["tensors"])), f"{row['seconds']:.0f} / {row['processor seconds']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def summary(rows: Sequence[Row]) -> str:
    """Return one line of means over classes."""
    worst = max(rows, key=left)
    lowest = min(rows, key=change)
    over = sum(left(row) > MOST_FORGET for row in rows)
    cells = [
        str(len(rows)),
        spread([left(row) for row in rows]),
        f"{worst['class']}, {left(worst):.0f}",
        f"{over} of {len(rows)}",
        spread([change(row) for row in rows], "+.2f"),
        f"{lowest['class']}, {change(lowest):+.2f}",
        spread([score(row) for row in rows], ".3f"),
        f"{mean([row['seconds'] for row in rows]):.0f} / {mean([row['processor seconds'] for row in rows]):.0f}",
    ]
    return " | ".join(cells)


def seed_lines(runs: Mapping[tuple[str, str, int], Row]) -> list[str]:
    """Return, for every class with several seeds, forget accuracy and change of the rest, seed by seed."""
    names = [name for model, name, seed in runs if model == "sandbox" and seed == 1]
    seeds = sorted({seed for model, _, seed in runs if model == "sandbox"})
    lines = ["| class | " + " | ".join(f"seed {seed}" for seed in seeds) + " | range of forget |"]
    lines.append("|---|" + "---|" * (len(seeds) + 1))
    for name in names:
        rows = [runs["sandbox", name, seed] for seed in seeds if ("sandbox", name, seed) in runs]
        cells = [f"{left(row):.1f}; {change(row):+.2f}" for row in rows]
        lower, upper = min(map(left, rows)), max(map(left, rows))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {upper - lower:.1f} |")
    return lines


def model_lines(runs: Mapping[tuple[str, str, int], Row]) -> list[str]:
    """Return one line of means for each model, all over the classes that every model was run on."""
    names = [name for model, name, seed in runs if model == "sandbox" and seed == 1]
    lines = [HEADER, RULE]
    for model in dict.fromkeys(model for model, _, _ in runs):
        rows = [runs[model, name, 0] for name in names if (model, name, 0) in runs]
        lines.append(f"| {model} | {summary(rows)} |")
    return lines


HEADER = (
    "| | classes | forget, % | worst class | above 10 % | rest, pt | lowest rest | average score "
    "| seconds: clock / processor |"
)
RULE = "|---|" + "---|" * 8


def verdict(rows: Sequence[Row], whole: Row) -> list[str]:
    """Return which of the goals are reached."""
    over = [f"{row['class']} ({left(row):.0f} %)" for row in rows if left(row) > MOST_FORGET]
    lost = [f"{row['class']} ({change(row):+.1f})" for row in rows if change(row) < -MOST_REST]
    told = (
        (f"forget at most {MOST_FORGET:.0f} % in every class", over),
        (f"rest not more than {MOST_REST:.0f} points lower in every class", lost),
    )
    lines = [f"- {text}: {'**missed** by ' + ', '.join(bad) if bad else 'reached'}." for text, bad in told]
    in_time = "reached" if whole["seconds"] <= MOST_SECONDS else "**missed**"
    seconds = f"{whole['seconds']:.1f} s by the clock, {whole['processor seconds']:.1f} s of the processor"
    return [*lines, f"- whole command, `{whole['command']}`, within {MOST_SECONDS:.0f} s: {in_time} ({seconds})."]


def failures(rows: Sequence[Row], tell: Callable[[Row], str]) -> list[str]:
    """Return a line for every run that changed nothing, with its reason."""
    return [f"- {tell(row)}: nothing changed. {row['reason']}" for row in rows if row["reason"]]


def about(found: Row) -> list[str]:
    """Return the heading and what the figures are."""
    one = first_seed(found)[0]
    counts = f"{outcome(one, 'forget').count} pictures of the class, {outcome(one, 'rest').count} of the others"
    machine = f"Machine: {found['machine']}. Version {found['version']}; {codes(found)}."
    return [
        "# `lip` on the sandbox",
        "",
        'Defaults, one class at a time, asked for by "a photo of a {}." among all 28 names, on the `audit` stream:',
        f"{counts}. Forget: accuracy on the class after the edit with its Wilson interval. Rest:",
        "paired change on the others with its Bonett-Price interval. Synthetic: pictures held out for the stop that",
        "are still recognised, once for each name of the request; apart: the real accuracy less that, in points, with",
        "Newcombe's interval. Other names: accuracy in % by those that found 30 % before. Image / text: accuracy with",
        "only that tower edited. Average score: over the class and the rest, no other data sets; 0 is best, no edit",
        "has .5. Means with 95 % t intervals over classes. Seconds of the method, by the clock and of the processor:",
        "other work ran on the machine.",
        "",
        f"Command: `{found['command']}`. {machine}",
        "",
    ]


def apart(rows: Sequence[Row]) -> str:
    """Return how far synthetic and real accuracy are apart, over the classes of which pictures were made."""
    pairs = [(left(row), 100 * made[0] / made[1]) for row in rows if (made := synthetic(row))]
    difference = spread([real - other for real, other in pairs], "+.1f")
    mean = spread([other for _, other in pairs])
    return f"Synthetic accuracy after the edit {mean} %; real less synthetic {difference} points."


def table(found: Row) -> str:
    """Return the results as Markdown."""
    runs, rows = by_key(found), first_seed(found)
    columns = "forget, % | rest, pt | synthetic | apart, pt | other names | image / text | average score | tensors"
    lines = [
        *about(found),
        *verdict(rows, found["runs"]["whole command"]),
        "",
        HEADER,
        RULE,
        f"| sandbox | {summary(rows)} |",
        "",
        apart(rows),
        "",
        "## Class by class",
        "",
        f"| class | {columns} | seconds |",
        "|---|" + "---|" * 9,
        *(class_line(row) for row in rows),
        "",
        "## Seeds",
        "",
        "Forget in %; rest in points.",
        "",
        *seed_lines(runs),
        "",
        "## Other towers",
        "",
        "The same classes on every model, first seed.",
        "",
        *model_lines(runs),
        "",
        *failures(list(runs.values()), lambda row: f"{row['model']}, {row['class']}, seed {row['seed']}"),
    ]
    return "\n".join(lines).rstrip() + "\n"
