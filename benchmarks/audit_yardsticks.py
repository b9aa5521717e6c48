"""Audit edits of real models on photographs: what the suites find, how long they take and how long they said.

    python benchmarks/audit_yardsticks.py --yardsticks FOLDER [--only MODEL] [--suite quick|standard|few]
        [--place 0..4] [--report]

FOLDER holds `models/` and `data/`. Five classes of Caltech101, among all 100 or the 20 that a model was made for.
Pictures are unpacked into folders of classes first: the test images to measure on, and of the training images 10 of
each class to learn from and the others, at most 10, as evidence. Every run is written as it ends, to
benchmarks/results/audit_yardsticks.json; what is there is not run again.

Runs whose time is told begin with an empty cache, as a user's first audit does: those on the first class. On the other
classes a suite goes on with what runs before it kept.

`--suite few` are attacks that are shown images of the class, beside classes of Caltech101 that the model was not made
for: the first eight that it does not know. For the first class alone.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from shutil import copytree
from typing import Any, Final

from audit_yardsticks_report import table
from lip_runs import RESULTS, opened, record
from project import load, only, targets
from torch import Tensor, nn

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import InputType, Model, Tower
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.text_memory import remembering
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.novel import open_novel
from clip_unlearn.data.open import open_data
from clip_unlearn.files import atomic
from clip_unlearn.methods.ccup import Ccup
from clip_unlearn.methods.cliperase import Cliperase
from clip_unlearn.methods.lip import Lip
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.audit import plan_audit, run_audit
from clip_unlearn.runs.names import completed
from clip_unlearn.runs.novel import unknown
from clip_unlearn.runs.plan import Aids
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.runs.run import make_patch

PATH: Final = RESULTS / "audit_yardsticks.json"
COMMAND: Final = "python benchmarks/audit_yardsticks.py --yardsticks FOLDER"
MODELS: Final = ("vit-distilled", "lit-minilm")
CLASSES, EACH, NOVEL = 5, 10, 8
SUITES: Final = {"few": "zero_shot,linear_probe,prototype,soft_prompt,relearning"}
LAST_TEXT: Final = {"depth": "readout", "towers": "text", "rate": 0.01, "steps": 300, "retain_batch": 128}
METHODS: Final[dict[str, Callable[[], Method]]] = {
    "ccup": Ccup,
    "redirect": Redirect,
    "lip": Lip,
    "cliperase, last text layer": lambda: Cliperase.model_validate({"floor": "neutral", "descent": LAST_TEXT}),
}


class Clock:
    """Seconds spent in the towers of a model."""

    def __init__(self) -> None:
        """Begin at nothing."""
        self.seconds = 0.0

    def on(self, model: Model) -> Model:
        """Return the model with both towers under this clock."""
        adapter = model.adapter
        image, text = (self._tower(tower) for tower in (adapter.image, adapter.text))
        return replace(model, adapter=replace(adapter, image=image, text=text))

    def _tower(self, tower: Tower[InputType]) -> Tower[InputType]:
        features = None if tower.features is None else self._timed(tower.features)
        return replace(tower, embed=self._timed(tower.embed), features=features)

    def _timed(self, call: Callable[[nn.Module, InputType], Tensor]) -> Callable[[nn.Module, InputType], Tensor]:
        def timed(module: nn.Module, inputs: InputType) -> Tensor:
            begin = time.perf_counter()
            try:
                return call(module, inputs)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


def unpacked(images: ImageSet, rows: Sequence[int], folder: Path, *, mark: str = "") -> Path:
    """Write pictures into a folder of classes, and return it; `mark` begins the names of the files."""
    for row in rows:
        place = folder / images.classes[images.labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        images.picture(row).save(place / f"{mark}{row}.png")
    return folder


class Bed:
    """A model, with folders to measure on, to learn from and of evidence."""

    def __init__(self, yardsticks: Path, name: str, folder: Path) -> None:
        """Unpack the pictures of a model into a folder."""
        self.clock, self.name = Clock(), name
        self.model = self.clock.on(open_model(yardsticks / "models" / name))
        self.going_on = remembering(self.model)
        images = load(yardsticks, name, "caltech101-test")
        self.classes, self.yardsticks, self.folder = images.classes, yardsticks, folder
        self.asked = tuple(images.classes[place] for place in targets(images)[::2][:CLASSES])
        taught = only(open_data(str(yardsticks / "data" / "caltech101-train.parquet")), images.classes)
        rows: dict[int, list[int]] = {}
        for row, label in enumerate(taught.labels):
            rows.setdefault(label, []).append(row)
        self.data = unpacked(images, range(len(images)), folder / "measured")
        self.support = unpacked(taught, [row for own in rows.values() for row in own[:EACH]], folder / "support")
        self.evidence = unpacked(
            taught, [row for own in rows.values() for row in own[EACH : 2 * EACH]], folder / "shown"
        )

    @cached_property
    def novel(self) -> Path:
        """Return a folder of the first eight classes of the data that the model does not know."""
        places = [self.yardsticks / "data" / f"caltech101-{part}.parquet" for part in ("test", "train")]
        everything = self.folder / "others"
        for part, images in enumerate(map(open_data, map(str, places))):
            others = [row for row, label in enumerate(images.labels) if images.classes[label] not in self.classes]
            unpacked(images, others, everything, mark=f"{part}-")
        request = Request(
            forget=(Concept(name=self.asked[0]),), retain=tuple(one for one in self.classes if one != self.asked[0])
        )
        every = open_novel(str(everything), open_data(str(self.data)), open_data(str(self.support)), request)
        for one in unknown(self.model, every, request)[0][:NOVEL]:
            copytree(everything / one.name, self.folder / "novel" / one.name)
        return self.folder / "novel"

    def patch(self, model: Model, name: str, method: Method) -> Patch:
        """Return the patch that forgets a class."""
        shown = open_data(str(self.evidence))
        request = Request(
            forget=(Concept(name=name),),
            retain=tuple(one for one in self.classes if one != name),
            evidence=Evidence(where=shown.where, digest=shown.digest),
        )
        return make_patch(model, completed(model, request, other_names="auto", background="nouns"), method)

    def run(self, name: str, method: str, suite: str) -> dict[str, Any]:
        """Return what a suite finds on one edit, with its times."""
        empty = name == self.asked[0]
        model = self.model if empty else self.going_on
        with tempfile.TemporaryDirectory() as cache:
            os.environ["CLIP_UNLEARN_CACHE"] = cache if empty else str(self.folder / "cache")
            patch, begin, spent = self.patch(model, name, METHODS[method]()), time.perf_counter(), self.clock.seconds
            data, novel = DataChoice(path=str(self.data), split="all"), str(self.novel) if suite == "few" else ""
            aids = Aids(support=str(self.support), novel=novel)
            found = run_audit(plan_audit(model, patch, data, suite=SUITES.get(suite, suite), aids=aids))
        return {
            "model": self.name,
            "class": name,
            "method": method,
            "suite": suite,
            "taught": EACH,
            "empty": empty,
            "seconds": time.perf_counter() - begin,
            "in towers": self.clock.seconds - spent,
            "each": found.seconds,
            "estimated": found.estimated,
            "grade": found.grade.grade if found.grade else "",
            "ceiling": found.grade.ceiling if found.grade else "",
            "readings": [
                [one.name, one.subject, one.of, one.value, one.count, one.low, one.high]
                for one in found.readings
                if one.subject != "change"
                and (not one.of or one.name.startswith("worst") or one.of == "without the attack" or suite == "few")
            ],
            "skipped": [[one.probe, one.reason.replace(f"{self.data.parent}/", "FOLDER/")] for one in found.skipped],
        }


def main() -> None:
    """Run what is missing and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--yardsticks", type=Path, help="folder with models/ and data/")
    parser.add_argument("--only", choices=MODELS, help="this model alone")
    parser.add_argument("--suite", choices=("quick", "standard", "few"), help="this suite alone")
    parser.add_argument("--place", type=int, choices=range(CLASSES), help="the class at this place alone")
    parser.add_argument("--report", action="store_true", help="make the table from what is there")
    given = parser.parse_args()
    for model in () if given.report else [given.only] if given.only else MODELS:
        with tempfile.TemporaryDirectory() as folder:
            bed = Bed(given.yardsticks, model, Path(folder))
            for suite in [given.suite] if given.suite else ("quick", "standard"):
                asked = bed.asked[:1] if suite == "few" else bed.asked
                for name in asked if given.place is None else (bed.asked[given.place],):
                    for method in METHODS:
                        record(PATH, COMMAND, f"{model} {suite} {name} {method}", partial(bed.run, name, method, suite))
    atomic.write_text(RESULTS / "audit_yardsticks.md", table(opened(PATH)))


if __name__ == "__main__":
    main()
