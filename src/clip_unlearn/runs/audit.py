"""Attack a patch: audits and their grade as a record on disk."""

import datetime
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from clip_unlearn.core.disclosure import leaks
from clip_unlearn.core.grades import Evidence, grade
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.probe import Probe
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Origin, Reading, Record, Skipped, Source
from clip_unlearn.core.recovery import recovery_ratios
from clip_unlearn.data.embed import embed_with_all
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import SettingError, UndefinedError
from clip_unlearn.files import atomic
from clip_unlearn.report.summary import summarise
from clip_unlearn.runs.environment import environment
from clip_unlearn.runs.plan import make_probes, reported
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.runs.run import RECORD_FILE
from clip_unlearn.runs.suites import chosen


def audit(
    model: Model,
    patch: Patch,
    data: DataChoice,
    *,
    suite: str = "quick",
    support: str = "",
    references: Sequence[Model] = (),
    command: str = "",
) -> Record:
    """Return the record of the audits of a suite on a patch, with its grade.

    The request, and with it what is asked and what is retained, is the patch's own. Attacks that learn from images take
    them from `support`, and all of the data is measured; without it from the select part, and the audit part is.
    `references` are models that never saw what was forgotten: every audit is made on them too, and says how much of the
    distance from them to the original is left (`core.recovery`).

    Raises:
        SettingError: if the patch does not say what it forgets.
        UnknownNameError: if there is no such suite or audit.
        InputError: if the data do not fit.
    """
    if patch.origin is None:
        raise SettingError("The patch does not say what it was to forget. Give one that a run has made.")
    names, settings = chosen(suite)
    data = DataChoice(path=data.path, split=reported(data, support))
    images = open_data(data.path, split=data.split)
    if support:
        open_data(support)  # What is wrong with it is said before anything is computed.
    probes, skipped = make_probes(names, data, labelled=bool(images.labels), support=support, settings=settings)
    edited, seconds = patch.apply(model), {}
    begin = time.perf_counter()
    before, _ = embed_with_all([model, edited], images, progress=partial(report, "embed"))
    seconds["embed"] = round(time.perf_counter() - begin, 3)
    readings, undefined = _measured(_Sides(model, edited, references), patch.origin, probes, seconds)
    ratios, too_close = recovery_ratios(readings)
    return Record(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        origin=patch.origin,
        after=Source(where=f"{model.source.where} + patch", digest=edited.fingerprint),
        data=Source(where=images.where, digest=images.digest, count=len(images)),
        references=tuple(Source(where=one.source.where, digest=one.fingerprint) for one in references),
        portable=patch.portable,
        seconds=seconds,
        environment=environment(str(model.device)),
        leaks=leaks(patch.origin.reach, "suppress"),
        grade=grade(Evidence(readings=(*readings, *ratios), reach=patch.origin.reach)),
        readings=(*readings, *ratios),
        skipped=(*skipped, *undefined, *too_close),
        quarantine=before.quarantine,
    )


def write(record: Record, out: Path, *, force: bool = False) -> None:
    """Write the record of an audit and its page into a folder that appears whole or not at all.

    Raises:
        OutputError: if `out` has content and `force` is not set.
        StorageError: if the disk refuses.
    """
    with atomic.new_folder(out, force=force) as folder:
        record.save(folder / RECORD_FILE)
        summarise(record, folder)


class _Sides(NamedTuple):
    """The models of an audit."""

    before: Model
    after: Model
    references: Sequence[Model]


def _measured(
    sides: _Sides, origin: Origin, probes: tuple[Probe, ...], seconds: dict[str, float]
) -> tuple[tuple[Reading, ...], tuple[Skipped, ...]]:
    """Return the readings of all audits, and those that are not defined here; `seconds` gets the time of each."""
    readings: list[Reading] = []
    skipped: list[Skipped] = []
    for done, probe in enumerate(probes):
        name = type(probe).__module__.rpartition(".")[2]
        report(f"audit: {name}", done, len(probes))
        begin = time.perf_counter()
        try:
            readings.extend(probe.measure(sides.before, sides.after, origin.request))
            for reference in sides.references:
                readings.extend(_of_reference(probe, sides.before, reference, origin))
        except UndefinedError as error:
            skipped.append(Skipped(probe=name, reason=str(error)))
        seconds[name] = round(time.perf_counter() - begin, 3)
    return tuple(readings), tuple(skipped)


def _of_reference(probe: Probe, before: Model, reference: Model, origin: Origin) -> Iterator[Reading]:
    """Yield what a probe finds where a model that never saw the forgotten stands in the place of the edited one."""
    where = reference.source.where
    for one in probe.measure(before, reference, origin.request):
        if one.subject == "after":
            yield Reading(
                **{**one.model_dump(), "subject": "reference", "of": f"{where}: {one.of}" if one.of else where}
            )
