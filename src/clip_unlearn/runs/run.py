"""One run: request, method and probes to a folder with a patch, a record and a summary."""

import contextlib
import datetime
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from clip_unlearn.core.disclosure import leaks
from clip_unlearn.core.embedding_map import reach
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Origin, Reading, Record, Source
from clip_unlearn.core.request import Request
from clip_unlearn.core.versions import version
from clip_unlearn.data.embed import embed_with_all
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


def make_patch(model: Model, request: Request, method: Method) -> Patch:
    """Return the patch of a method with its origin: folded into ordinary weights wherever the family allows.

    Raises:
        UnsupportedError: if the method needs what the model or the request lacks.
    """
    method.check(model, request)
    method = method.settled(model, request)
    patch = method.forget(model, request).folded(model)
    origin = Origin(
        method=type(method).__module__.rpartition(".")[2],
        settings=method.model_dump(mode="json"),
        request=request,
        base=Source(where=model.source.where, revision=model.source.revision, digest=model.fingerprint),
        version=version(),
        touches=patch.touches,
        survived=patch.survived(model),
        reason=patch.reason,
        reach=reach(patch, model),
    )
    return Patch(deltas=patch.deltas, outputs=patch.outputs, reason=patch.reason, origin=origin)


def run(recipe: Recipe, out: Path, *, force: bool = False, command: str = "", model: Model | None = None) -> Record:
    """Carry out a recipe and write `out`: record.json, recipe.yaml, patch/, summary.md, summary.html, samples/.

    What is measured is what is shipped: the patch folded into weights, in the model's own number format. The folder
    appears whole or not at all.

    Raises:
        InputError: if anything in the recipe or the output folder is not usable.
        StorageError: if the disk refuses.
    """
    check_output(out, force=force)
    seconds: dict[str, float] = {}
    with _timed("open", seconds):
        prepared = plan(recipe, model=model)
    with _timed("forget", seconds):
        method, predicted = resolve(prepared)
        patch = make_patch(prepared.model, prepared.request, method)
        edited = patch.apply(prepared.model)
    with _timed("embed", seconds):
        quarantine = _embed(prepared, edited)
    with _timed("measure", seconds):
        readings = (*measure(prepared, edited), *predicted)
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
            readings=readings,
            skipped=prepared.skipped,
            samples=samples,
            quarantine=quarantine,
        )
        (folder / PATCH_FOLDER).mkdir()
        patch.write(folder / PATCH_FOLDER)
        atomic.write_text(folder / RECIPE_FILE, recipe.to_yaml())
        record.save(folder / RECORD_FILE)
        summarise(record, folder)
    return record


def measure(prepared: Plan, edited: Model) -> tuple[Reading, ...]:
    """Return the readings of all probes of a plan."""
    readings: list[Reading] = []
    for done, probe in enumerate(prepared.probes):
        report("measure", done, len(prepared.probes))
        readings.extend(probe.measure(prepared.model, edited, prepared.request))
    report("measure", len(prepared.probes), len(prepared.probes))
    return tuple(readings)


def _embed(prepared: Plan, edited: Model) -> tuple[str, ...]:
    """Embed the images with both models at once, so that probes find them in the cache; return the unreadable ones."""
    if prepared.images is None:
        return ()
    before, _ = embed_with_all([prepared.model, edited], prepared.images, progress=partial(report, "embed"))
    return before.quarantine


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
