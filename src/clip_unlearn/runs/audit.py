"""Attack a patch: audits and their grade as a record on disk."""

import datetime
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

from clip_unlearn.core.anamnesis import anamnesis_indices
from clip_unlearn.core.config import name_of
from clip_unlearn.core.disclosure import leaks
from clip_unlearn.core.grades import Evidence, grade
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.probe import Probe
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Origin, Reading, Record, Skipped, Source
from clip_unlearn.core.recovery import Outcome, recovery_ratios
from clip_unlearn.core.request import Request
from clip_unlearn.core.text_memory import remembering
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_with_all, to_embed
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.novel import NovelClass, open_novel
from clip_unlearn.data.open import another_part, open_data, opened_once
from clip_unlearn.errors import SettingError, UndefinedError
from clip_unlearn.files import atomic
from clip_unlearn.probes.audit.class_inversion import open_judge
from clip_unlearn.report.summary import summarise
from clip_unlearn.runs.environment import environment
from clip_unlearn.runs.estimate import Speed, estimates, size_of, speed_of, within
from clip_unlearn.runs.novel import as_reference, held, novel_readings, shows_the_class, unknown
from clip_unlearn.runs.plan import NONE, Aids, make_probes, reported
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.runs.run import RECORD_FILE
from clip_unlearn.runs.suites import chosen


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class AuditPlan:
    """Audits that can be made, with what they are made on."""

    model: Model
    patch: Patch
    edited: Model
    origin: Origin
    images: ImageSet
    probes: tuple[Probe, ...]
    references: tuple[Model, ...]
    novel: tuple[NovelClass, ...]
    novel_images: ImageSet | None
    """Where the novel classes are from."""

    skipped: tuple[Skipped, ...]
    estimated: Mapping[str, float]
    """About how many seconds each audit takes, on the references too; "embed" for embedding all images."""

    @property
    def seconds(self) -> float:
        """Return about how long all of it takes."""
        return sum(self.estimated.values())


def audit(
    model: Model,
    patch: Patch,
    data: DataChoice,
    *,
    suite: str = "quick",
    aids: Aids = NONE,
    references: Sequence[Model] = (),
) -> Record:
    """Return the record of the audits of a suite on a patch, with its grade: `plan_audit`, then `run_audit`."""
    return run_audit(plan_audit(model, patch, data, suite=suite, aids=aids, references=references))


def plan_audit(
    model: Model,
    patch: Patch,
    data: DataChoice,
    *,
    suite: str = "quick",
    aids: Aids = NONE,
    references: Sequence[Model] = (),
    budget: float | None = None,
) -> AuditPlan:
    """Return the audits of a suite on a patch, with an estimate of the time each takes.

    The request, and with it what is asked and what is retained, is the patch's own. Attacks that learn from images take
    them from `aids.support`, and all of the data is measured; without it from the select part, and the audit part is.
    `references` are models that never saw what was forgotten: every audit is made on them too, and says how much of the
    distance from them to the original is left (`core.recovery`). Where there are none, `aids.novel` are images of
    classes that the original does not know: attacks that are shown a class are made on those too, in the original.
    Audits that a `budget` in seconds has no room for, in
    the order of the suite, are left out with that reason.

    Raises:
        SettingError: if the patch does not say what it forgets.
        UnknownNameError: if there is no such suite or audit.
        InputError: if the data do not fit, or the judge is none.
    """
    if patch.origin is None:
        raise SettingError("The patch does not say what it was to forget. Give one that a run has made.")
    if references and aids.novel:
        raise SettingError("--novel stands in the place of a reference. Give --reference or --novel, not both.")
    names, settings = chosen(suite)
    data = DataChoice(path=data.path, split=reported(data, aids.support))
    images, support = open_data(data.path, split=data.split), _support(data, aids.support)
    probes, skipped = make_probes(names, data, labelled=bool(images.labels), aids=aids, settings=settings)
    request = patch.origin.request
    novel = _novel(aids.novel, images, support, request) if aids.novel else ()
    speed = speed_of(model, images, request)
    model = remembering(model)
    models = model, patch.apply(model)
    if aids.judge:
        open_judge(aids.judge, *models)
    size = size_of(images, 0 if support is None else len(support), request, models)
    embedding = speed.seconds(Work(support=len(images) * to_embed([*models, *references], images)))
    each = [
        takes * (1 + len(references)) + _again(probe, models, size, speed) * len(novel)
        for probe, takes in zip(probes, estimates(probes, models, size, speed), strict=True)
    ]
    kept, left_out = within(probes, each, (math.inf if budget is None else budget) - embedding)
    return AuditPlan(
        model=model,
        patch=patch,
        edited=models[1],
        origin=patch.origin,
        images=images,
        probes=kept,
        references=tuple(map(remembering, references)),
        novel=novel,
        novel_images=open_data(aids.novel) if aids.novel else None,
        skipped=(*skipped, *left_out),
        estimated={"embed": embedding}
        | {name_of(probe): takes for probe, takes in zip(probes, each, strict=True) if probe in kept},
    )


def run_audit(plan: AuditPlan, *, command: str = "") -> Record:
    """Return the record of audits, with their grade; `command` is what repeats them."""
    with opened_once(held(plan.novel)):
        return _record(plan, command)


def _record(plan: AuditPlan, command: str) -> Record:
    model, edited, origin, seconds = plan.model, plan.edited, plan.origin, {}
    begin = time.perf_counter()
    before, *_ = embed_with_all([model, edited, *plan.references], plan.images, progress=partial(report, "embed"))
    seconds["embed"] = round(time.perf_counter() - begin, 3)
    readings, undefined = _measured(plan, seconds)
    (ratios, too_close), (indices, no_index) = recovery_ratios(readings), anamnesis_indices(readings)
    readings = (*readings, *ratios, *indices)
    return Record(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        origin=origin,
        after=Source(where=f"{model.source.where} + patch", digest=edited.fingerprint),
        data=_source(plan.images),
        novel=None if plan.novel_images is None else _source(plan.novel_images),
        references=tuple(Source(where=one.source.where, digest=one.fingerprint) for one in plan.references),
        portable=plan.patch.portable,
        seconds=seconds,
        estimated={name: round(takes, 3) for name, takes in plan.estimated.items()},
        environment=environment(str(model.device)),
        leaks=leaks(origin.reach, "suppress"),
        grade=grade(Evidence(readings=readings, reach=origin.reach)),
        readings=readings,
        skipped=(*plan.skipped, *undefined, *too_close, *no_index),
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


def _measured(plan: AuditPlan, seconds: dict[str, float]) -> tuple[tuple[Reading, ...], tuple[Skipped, ...]]:
    """Return the readings of all audits, and those that are not defined here; `seconds` gets the time of each."""
    novel, known, left_out = unknown(plan.model, plan.novel, plan.origin.request)
    readings: list[Reading] = list(known)
    skipped: list[Skipped] = list(left_out)
    for done, probe in enumerate(plan.probes):
        report(f"audit: {name_of(probe)}", done, len(plan.probes))
        begin = time.perf_counter()
        try:
            readings.extend(probe.measure(plan.model, plan.edited, plan.origin.request))
        except UndefinedError as error:
            skipped.append(Skipped(probe=name_of(probe), reason=str(error)))
        else:
            for found, why in (_beside(probe, plan), novel_readings(probe, plan.model, novel, plan.origin.request)):
                readings.extend(found)
                skipped.extend(why)
        seconds[name_of(probe)] = round(time.perf_counter() - begin, 3)
    return tuple(readings), tuple(skipped)


def _beside(probe: Probe, plan: AuditPlan) -> Outcome:
    """Return what a probe finds where a model that never saw the forgotten stands in the place of the edited one."""
    readings: list[Reading] = []
    skipped: list[Skipped] = []
    for reference in plan.references:
        try:
            found = probe.measure(plan.model, reference, plan.origin.request)
        except UndefinedError as error:
            skipped.append(Skipped(probe=f"{name_of(probe)} on {reference.source.where}", reason=str(error)))
        else:
            readings.extend(as_reference(found, reference.source.where))
    return tuple(readings), tuple(skipped)


def _source(images: ImageSet) -> Source:
    return Source(where=images.where, digest=images.digest, count=len(images))


def _support(data: DataChoice, support: str) -> ImageSet | None:
    """Return the images to learn from; what is wrong with them is said before anything is computed."""
    where = support or another_part(data.path, "select")
    return open_data(where) if support or where != data.path else None


def _again(probe: Probe, models: tuple[Model, Model], size: Size, speed: Speed) -> float:
    """Return how long an audit takes on a further class, where what is kept is there: nothing if it is shown none."""
    return estimates((probe, probe), models, size, speed)[1] if shows_the_class(probe) else 0.0


def _novel(where: str, images: ImageSet, support: ImageSet | None, request: Request) -> tuple[NovelClass, ...]:
    if support is None:
        raise SettingError("--novel needs images of the known classes to learn from. Give --support.")
    return open_novel(where, images, support, request)
