"""One run: request, method and probes to a folder with a patch, a record and a summary."""

import contextlib
import datetime
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from clip_unlearn.core.config import name_of
from clip_unlearn.core.disclosure import leaks
from clip_unlearn.core.embedding_map import reach
from clip_unlearn.core.journal import journaling
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.processes import is_main
from clip_unlearn.core.progress import report
from clip_unlearn.core.readings import difference
from clip_unlearn.core.record import APART, SYNTHETIC, Origin, Reading, Record, Skipped, Source
from clip_unlearn.core.request import Request
from clip_unlearn.core.versions import version
from clip_unlearn.data.embed import embed_with_all
from clip_unlearn.errors import UndefinedError
from clip_unlearn.files import atomic
from clip_unlearn.report.summary import summarise
from clip_unlearn.runs.budget import resolve
from clip_unlearn.runs.environment import environment
from clip_unlearn.runs.plan import Plan, check_output, plan
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.runs.samples import save_samples

RECORD_FILE = "record.json"
RECIPE_FILE = "recipe.yaml"
PATCH_FOLDER = "patch"
JOURNAL = ".journal"
"""What the name of the output folder is followed by, in that of the folder with the steps of an unfinished run."""


def make_patch(model: Model, request: Request, method: Method) -> Patch:
    """Return the patch of a method with its origin: folded into ordinary weights wherever the family allows.

    Raises:
        UnsupportedError: if the method needs what the model or the request lacks.
    """
    method.check(model, request)
    method = method.settled(model, request)
    patch = method.forget(model, request).folded(model)
    origin = Origin(
        method=name_of(method),
        settings=method.model_dump(mode="json"),
        request=request,
        base=Source(where=model.source.where, revision=model.source.revision, digest=model.fingerprint),
        version=version(),
        touches=patch.touches,
        survived=patch.survived(model),
        reason=patch.reason,
        reach=reach(patch, model),
        measured=patch.readings,
    )
    return Patch(deltas=patch.deltas, outputs=patch.outputs, reason=patch.reason, origin=origin)


def run(
    recipe: Recipe,
    out: Path,
    *,
    force: bool = False,
    resume: bool = False,
    command: str = "",
    model: Model | None = None,
) -> Record:
    """Carry out a recipe and write `out`: record.json, recipe.yaml, patch/, summary.md, summary.html, samples/.

    What is measured is what is shipped: the patch folded into weights, in the model's own number format. The folder
    appears whole or not at all. Methods that work long keep their steps in `out`.journal beside it, which goes once
    `out` is there; after an interruption `resume` takes the steps from it, and the result has the same bytes. Several
    processes of one launch share the training of a method, and the main one writes.

    Raises:
        InputError: if anything in the recipe or the output folder is not usable.
        StorageError: if the disk refuses.
    """
    check_output(out, force=force)
    seconds: dict[str, float] = {}
    with _timed("open", seconds):
        prepared = plan(recipe, model=model)
    with journaling(out.with_name(out.name + JOURNAL), resume=resume), _own_folder(out) as own:
        return _carried_out(prepared, own, seconds, force=force, command=command)


@contextlib.contextmanager
def _own_folder(out: Path) -> Iterator[Path]:
    """Yield where this process writes: all but the main one write what the main one does, to a place that goes."""
    if is_main():
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / out.name


def _carried_out(prepared: Plan, out: Path, seconds: dict[str, float], *, force: bool, command: str) -> Record:
    with _timed("forget", seconds):
        method, predicted = resolve(prepared)
        patch = make_patch(prepared.model, prepared.request, method)
        edited = patch.apply(prepared.model)
    with _timed("embed", seconds):
        quarantine = _embed(prepared, edited)
    with _timed("measure", seconds):
        readings, skipped = measure(prepared, edited)
        own = _origin(patch).measured
    with atomic.new_folder(out, force=force) as folder:
        samples = () if prepared.images is None else save_samples(prepared, edited, folder)
        record = Record(
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=command,
            origin=_origin(patch),
            after=Source(where=f"{prepared.model.source.where} + patch", digest=edited.fingerprint),
            data=_data_source(prepared),
            portable=patch.portable,
            seconds=seconds,
            environment=environment(str(prepared.model.device)),
            edit="suppress",
            leaks=leaks(_origin(patch).reach, "suppress"),
            readings=(*readings, *predicted, *own, *_apart(own, readings)),
            skipped=(*prepared.skipped, *skipped),
            samples=samples,
            quarantine=quarantine,
        )
        (folder / PATCH_FOLDER).mkdir()
        patch.write(folder / PATCH_FOLDER)
        atomic.write_text(folder / RECIPE_FILE, prepared.recipe.to_yaml())
        record.save(folder / RECORD_FILE)
        summarise(record, folder)
    return record


def measure(prepared: Plan, edited: Model) -> tuple[tuple[Reading, ...], tuple[Skipped, ...]]:
    """Return the readings of all probes of a plan, and the probes that are not defined on its data."""
    readings: list[Reading] = []
    skipped: list[Skipped] = []
    for done, probe in enumerate(prepared.probes):
        report("measure", done, len(prepared.probes))
        try:
            readings.extend(probe.measure(prepared.model, edited, prepared.request))
        except UndefinedError as error:
            skipped.append(Skipped(probe=name_of(probe), reason=str(error)))
    report("measure", len(prepared.probes), len(prepared.probes))
    return tuple(readings), tuple(skipped)


def _apart(own: tuple[Reading, ...], probed: tuple[Reading, ...]) -> tuple[Reading, ...]:
    """Return how far the accuracy on the method's own pictures is above that on real ones, where both are known."""
    synthetic = [one for one in own if (one.name, one.subject) == (SYNTHETIC, "after")]
    real = [one for one in probed if (one.name, one.subject, one.of) == ("forget accuracy", "after", "")]
    return (difference(APART, synthetic, real),) if synthetic and real else ()


def _embed(prepared: Plan, edited: Model) -> tuple[str, ...]:
    """Embed the images with both models at once, so that probes find them in the cache; return the unreadable ones."""
    quarantine: list[str] = []
    for images in (*(() if prepared.images is None else (prepared.images,)), *prepared.others):
        before, _ = embed_with_all([prepared.model, edited], images, progress=partial(report, "embed"))
        quarantine.extend(before.quarantine)
    return tuple(quarantine)


def _origin(patch: Patch) -> Origin:
    if patch.origin is None:
        raise TypeError("a patch made by a run has an origin")
    return patch.origin


def _data_source(prepared: Plan) -> Source | None:
    images = prepared.images
    return None if images is None else Source(where=images.where, digest=images.digest, count=len(images))


@contextlib.contextmanager
def _timed(stage: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)
