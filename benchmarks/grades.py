"""Grade every method on classes of which models exist that never saw them, and two vandals that must not pass.

    python benchmarks/grades.py [--only METHOD ...] [--report]

All three domains of the sandbox, methods at their defaults, the standard suite. The two models retrained without the
class are the references of all methods. Every run is written as it ends, to benchmarks/results/grades.json; what is
there is not run again. Then grades.md is made.
"""

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import torch
from lip_runs import RESULTS, opened, record

from clip_unlearn import methods
from clip_unlearn.core.anamnesis import anamnesis_indices
from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.grades import Evidence, grade
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Grade, Reach, Reading
from clip_unlearn.core.recovery import RATIO, recovery_ratios
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.request import Evidence as Images
from clip_unlearn.core.text_memory import remembering
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import InputError, UndefinedError
from clip_unlearn.files import atomic
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed
from clip_unlearn.runs.plan import make_probes
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.runs.run import make_patch
from clip_unlearn.runs.suites import STANDARD
from clip_unlearn.sandbox.classes import CLASS_NAMES

PATH: Final = RESULTS / "grades.json"
COMMAND: Final = "python benchmarks/grades.py"
CLASSES: Final = ("car", "cat", "mug")
REFERENCES: Final = ("oracle 0", "oracle 1")
VANDALS: Final = ("vandal: logit scale", "vandal: name tokens")
CAPPED: Final = ("project", "ccup", "redirect", "leace", "lip", "cliperase")
"""Run first: edits of the last layer, which end at F2 whatever is measured, and the two that train encoders."""

EVIDENCE: Final = "sandbox@stop"
GRADED: Final = tuple(name for name in STANDARD if name not in ("inner_layers", "layer_lens", "near_duplicates"))
"""Those that a grade up to F3 needs, and the cheap ones."""

ONE_SHOT: Final = {name: {"shots": (1,)} for name in ("linear_probe", "prototype", "soft_prompt")}
"""Of few-shot attacks the hardest form alone."""

DATA: Final = DataChoice(path="sandbox", split="audit")
SHOWN: Final = (
    "forget accuracy",
    *(f"{WORST}{name} accuracy" for name in ("wording", "vocabulary", "image refit", "text refit", "module revert")),
    *(f"{WORST}{name} accuracy" for name in ("fine-tuning", "rounding", "interpolation")),
    f"{WORST}recipe inversion accuracy",
    "1-shot probe accuracy, embedding",
    "1-shot soft prompt accuracy",
)
"""Readings that stand in the table."""

Run = Mapping[str, Any]


def asked(model: Model, name: str) -> Request:
    """Return the request to forget one class, with images to learn from."""
    images = open_data(EVIDENCE)
    request = Request(
        forget=(Concept(name=name),),
        retain=tuple(other for other in CLASS_NAMES if other != name),
        evidence=Images(where=images.where, digest=images.digest),
    )
    return completed(model, request, other_names="auto", background="nouns")


def edited(model: Model, request: Request, what: str) -> tuple[Model, Reach]:
    """Return the model that is graded, and what of the original it changed."""
    everything = Reach(towers=("image", "text"), depth="encoder")
    if what in REFERENCES:
        return remembering(open_model(f"oracle-{request.forget[0].name}-{what[-1]}")), everything
    if what in VANDALS:
        return vandalised(model, request, what), everything
    patch = make_patch(model, request, methods.find(what)())
    if patch.empty:
        raise UndefinedError(f"nothing changed: {patch.reason}")
    return patch.apply(model), (patch.origin and patch.origin.reach) or everything


def vandalised(model: Model, request: Request, what: str) -> Model:
    """Return the model with a hundredth of its logit scale, or with other vectors for the words of the name alone."""
    if what == VANDALS[0]:
        scale = model.adapter.logit_scale or ""
        return model.replace({scale: model.weights[scale] - torch.log(torch.tensor(100.0))})
    name = next(name for name in model.weights if name.endswith("token_embedding.weight"))
    words, empty = (
        set(model.adapter.tokenize([text])["input_ids"][0].tolist()) for text in (request.forget[0].name, "")
    )
    table = model.weights[name].detach().clone()
    for word in words - empty:
        table[word] = table[word].flip(0)
    return model.replace({name: table})


def run(name: str, what: str) -> dict[str, Any]:
    """Return the readings of every audit of the suite on one model."""
    model = remembering(open_model("sandbox"))
    request, begin = asked(model, name), time.perf_counter()
    try:
        after, reach = edited(model, request, what)
    except (InputError, UndefinedError) as error:
        return {"class": name, "edit": what, "failed": str(error), "seconds": time.perf_counter() - begin}
    took, readings = time.perf_counter() - begin, []
    for audit in GRADED:
        (probe,), _ = make_probes([audit], DATA, settings=ONE_SHOT)
        try:
            readings += [one.model_dump(mode="json") for one in probe.measure(model, after, request) if kept(one)]
        except UndefinedError:
            continue
    found = {"class": name, "edit": what, "method seconds": took, "reach": reach.model_dump(mode="json")}
    return found | {"seconds": time.perf_counter() - begin, "readings": readings}


def kept(reading: Reading) -> bool:
    """Return whether a grade or a ratio needs a reading: totals, worst forms, and how many wordings there were."""
    if reading.subject == "change":
        return reading.name == "retain accuracy" and not reading.of
    return not reading.of or reading.name.startswith(WORST) or reading.name == "wording accuracy"


def readings_of(one: Run) -> list[Reading]:
    """Return the readings of a run."""
    return [Reading(**fields) for fields in one["readings"]]


def graded(runs: Sequence[Run], one: Run) -> tuple[Grade, tuple[Reading, ...]]:
    """Return the grade of a run beside the references of its class, and its readings with the ratios."""
    readings = readings_of(one)
    for other in runs:
        if other["class"] == one["class"] and other["edit"] in REFERENCES and other is not one:
            for each in readings_of(other):
                if each.subject == "after":
                    readings.append(Reading(**{**each.model_dump(), "subject": "reference", "of": other["edit"]}))
    ratios = [*recovery_ratios(readings)[0], *anamnesis_indices(readings)[0]]
    return grade(Evidence(readings=(*readings, *ratios), reach=Reach(**one["reach"]))), (*readings, *ratios)


def table(found: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    runs = list(found["runs"].values())
    lines = [
        "# Grades of all methods where models exist that never saw the class",
        "",
        f"Classes {', '.join(CLASSES)} of the sandbox, one request each, 102 pictures of all three domains; methods at",
        "their defaults; the standard suite but for looks into layers, with the two models retrained without the class",
        "as references. Each cell: % recognised, in the worst form, and in brackets the recovery ratio where there is",
        "one; mean over classes. Control: the attack on the original with the name hidden in its last layer. Grades:",
        "of each class.",
        "",
        f"Command: `{found['command']}`. Machine: {found['machine']}. Version {found['version']}.",
        "",
        f"| edit | grades | {' | '.join(name.removeprefix(WORST).removesuffix(' accuracy') for name in SHOWN)} |",
        f"|---|---|{'---|' * len(SHOWN)}",
        *rows(runs),
    ]
    failed = [f"- {one['edit']}, {one['class']}: {one['failed']}" for one in runs if "failed" in one]
    return "\n".join([*lines, "", *failed]) + "\n"


def rows(runs: Sequence[Run]) -> Iterator[str]:
    """Yield a row for the original, the control, and every edit."""
    done = [one for one in runs if "failed" not in one]
    first = [one for one in done if one["edit"] == REFERENCES[0]]
    for label, subject in (("original", "before"), ("control", "control")):
        cells = [_mean([_value(readings_of(one), name, subject) for one in first]) for name in SHOWN]
        yield f"| *{label}* |  | {' | '.join(cells)} |"
    for what in dict.fromkeys(one["edit"] for one in done):
        own = [graded(done, one) for one in done if one["edit"] == what]
        cells = []
        for name in SHOWN:
            ratios = [_ratio(readings, name) for _, readings in own]
            cells.append(_mean([_value(readings, name, "after") for _, readings in own]) + _bracketed(ratios))
        yield f"| `{what}` | {', '.join(one.grade for one, _ in own)} | {' | '.join(cells)} |"


def _value(readings: Sequence[Reading], name: str, subject: str) -> float | None:
    return max((one.value for one in readings if (one.name, one.subject) == (name, subject)), default=None)


def _ratio(readings: Sequence[Reading], name: str) -> float | None:
    return next((one.value for one in readings if (one.name, one.of) == (RATIO, name.removeprefix(WORST))), None)


def _mean(values: Sequence[float | None]) -> str:
    there = [one for one in values if one is not None]
    return f"{100 * sum(there) / len(there):.0f}" if there else ""


def _bracketed(ratios: Sequence[float | None]) -> str:
    there = [one for one in ratios if one is not None]
    return f" ({sum(there) / len(there):.2f})" if there else ""


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="these methods alone")
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    first = (*REFERENCES, *VANDALS, *CAPPED)
    others = [name for name in methods.names() if name not in CAPPED]
    plan = [(what, name) for what in first for name in CLASSES] + [(what, name) for name in CLASSES for what in others]
    for what, name in () if given.report else plan:
        if what in (given.only or (what,)):
            record(PATH, COMMAND, f"{name} {what}", partial(run, name, what))
    atomic.write_text(RESULTS / "grades.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
