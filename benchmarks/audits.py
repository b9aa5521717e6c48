"""Attack edits of which is known what they leave, and models that never saw the class.

    python benchmarks/audits.py [--only CLASS ...] [--again AUDIT ...] [--report]

On photos of the sandbox, one class at a time: an edit of the last image layer, two that train, and two models retrained
without the class. Every run is written as it ends, to benchmarks/results/audits.json; what is there is not run again,
but for the audits named with --again, in the runs that are there. Then audits.md is made.
"""

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from lip_runs import RESULTS, alone, opened, record

from clip_unlearn import methods, probes
from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.files import atomic
from clip_unlearn.maths.intervals import wilson
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed
from clip_unlearn.runs.plan import make_probes
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.sandbox.classes import CLASS_NAMES

PATH = RESULTS / "audits.json"
COMMAND = "python benchmarks/audits.py"
CLASSES: Final = ("car", "cat", "mug")
EDITS: Final = ("redirect", "lip", "cliperase", "oracle 0", "oracle 1")
DATA: Final = DataChoice(path="sandbox:photo", split="audit")
EVIDENCE: Final = "sandbox:photo@stop"
SHOWN: Final[Mapping[str, Sequence[str]]] = {
    "wordings": (f"{WORST}wording accuracy",),
    "prompt_ensemble": ("ensemble accuracy",),
    "vocabulary": (f"{WORST}vocabulary accuracy",),
    "image_refit": (f"{WORST}image refit accuracy",),
    "text_refit": (f"{WORST}text refit accuracy",),
    "module_revert": (f"{WORST}module revert accuracy",),
    "fine_tuning": (f"{WORST}fine-tuning accuracy",),
    "rounding": (f"{WORST}rounding accuracy",),
    "interpolation": (f"{WORST}interpolation accuracy",),
    "layer_lens": (f"{WORST}layer lens accuracy",),
    "image_search": ("forget image search precision at 10",),
    "linear_probe": ("1-shot probe accuracy, embedding", "10-shot probe accuracy, before the last layer"),
    "prototype": ("1-shot prototype accuracy",),
    "soft_prompt": ("1-shot soft prompt accuracy",),
}
"""The readings of each audit that stand in the table."""


def asked(name: str) -> Request:
    """Return the request to forget one class."""
    images = open_data(EVIDENCE)
    return Request(
        forget=(Concept(name=name),),
        retain=tuple(other for other in CLASS_NAMES if other != name),
        evidence=Evidence(where=images.where, digest=images.digest),
    )


def edited(model: Model, request: Request, edit: str) -> Model:
    """Return the model that is attacked."""
    if edit.startswith("oracle"):
        return open_model(f"oracle-{request.forget[0].name}-{edit.removeprefix('oracle ')}")
    return methods.find(edit)().forget(model, request).folded(model).apply(model)


def run(name: str, edit: str, audits: Iterable[str] = SHOWN) -> dict[str, Any]:
    """Return the readings and the seconds of audits on one model."""
    model = open_model("sandbox")
    request = completed(model, asked(name), other_names="auto", background="nouns")
    after = edited(model, request, edit)
    found: dict[str, Any] = {"class": name, "edit": edit, "audits": {}}
    for audit in audits:
        (probe,), _ = make_probes([audit], DATA)
        begin = time.perf_counter()
        readings = probe.measure(model, after, request)
        found["audits"][audit] = {
            "seconds": time.perf_counter() - begin,
            "readings": [
                [one.name, one.subject, one.of, one.value, one.count] for one in readings if one.subject != "change"
            ],
        }
    return found | {"seconds": sum(one["seconds"] for one in found["audits"].values())}


def again(name: str, edit: str, audits: Sequence[str]) -> None:
    """Measure audits of a run that is there anew."""
    fresh = run(name, edit, audits)["audits"]
    with alone(PATH):
        found = opened(PATH)
        found["runs"][f"{name} {edit}"]["audits"] |= fresh
        atomic.write_json(PATH, found)


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = list(found["runs"].values())
    lines = [
        "# Attacks on models of which is known what they hold",
        "",
        f"Photos of the sandbox, classes {', '.join(CLASSES)}, one request each; `redirect`, `lip` and `cliperase` at",
        "their defaults, and the two models retrained without the class. Each cell: photos of the class recognised",
        "under the attack, in its worst form where it has several, in %, over the classes together, with the Wilson",
        "interval (of precision at 10 and of few images: of means over images). Original: without the attack, of few",
        "images with it. Control: the same attack on the original with the name taken out of its last layer. Seconds:",
        "mean of an audit.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
        f"| audit | original | control | {' | '.join(EDITS)} | seconds |",
        f"|---|---|---|{'---|' * len(EDITS)}---|",
    ]
    for audit, names in SHOWN.items():
        lines += [_row(audit, name, runs) for name in names]
    return "\n".join(lines) + "\n"


def _row(audit: str, name: str, runs: Sequence[Mapping[str, Any]]) -> str:
    kind, first = probes.find(audit), [run for run in runs if run["edit"] == EDITS[0]]
    code = kind.code if issubclass(kind, Audit) else ""
    cells = [f"`{audit}` ({code}): {name.removeprefix(WORST)}"]
    cells += [_cell([_values(run, audit, name, subject) for run in first]) for subject in ("before", "control")]
    for edit in EDITS:
        cells.append(_cell([_values(run, audit, name, "after") for run in runs if run["edit"] == edit]))
    seconds = [run["audits"][audit]["seconds"] for run in runs if audit in run["audits"]]
    return f"| {' | '.join([*cells, f'{sum(seconds) / len(seconds):.1f}'])} |"


def _values(run: Mapping[str, Any], audit: str, name: str, subject: str) -> tuple[float, int] | None:
    for known, side, _, value, count in run["audits"].get(audit, {"readings": ()})["readings"]:
        if (known, side) == (name, subject):
            return float(value), int(count)
    return None


def _cell(values: Sequence[tuple[float, int] | None]) -> str:
    there = [one for one in values if one is not None]
    if not there:
        return ""
    hits, count = sum(value * count for value, count in there), sum(count for _, count in there)
    low, high = wilson(hits, count)
    return f"{100 * hits / count:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    parser.add_argument("--only", nargs="*", choices=CLASSES, default=CLASSES, help="these classes alone")
    parser.add_argument("--again", nargs="*", choices=list(SHOWN), default=[], help="measure these audits anew")
    given = parser.parse_args()
    for edit in () if given.report else EDITS:
        for name in given.only:
            record(PATH, COMMAND, f"{name} {edit}", partial(run, name, edit))
            if given.again:
                again(name, edit, given.again)
    atomic.write_text(RESULTS / "audits.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
