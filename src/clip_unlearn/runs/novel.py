"""What attacks that are shown a class teach of themselves: the same on classes that the original does not know."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.config import name_of
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe
from clip_unlearn.core.readings import share
from clip_unlearn.core.record import NOVEL, NOVEL_ACCURACY, Reading, Skipped
from clip_unlearn.core.recovery import Outcome
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import answers
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.novel import FEWEST, NovelClass
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.audit._scene import open_scene

UNKNOWN: Final = 0.1
"""Largest share of the images of a class that a model names right which does not know it."""


def shows_the_class(probe: Probe) -> bool:
    """Return whether a probe is an attack that learns from images of the forgotten class."""
    return isinstance(probe, Audit) and probe.code.startswith("K")


def unknown(
    model: Model, novel: Sequence[NovelClass], request: Request
) -> tuple[tuple[NovelClass, ...], tuple[Reading, ...], tuple[Skipped, ...]]:
    """Return the classes that a model does not know, how often it names each, and those left out with the reason.

    Where fewer than `FEWEST` are left, none is.
    """
    readings = [_named(model, one, request) for one in novel]
    new = [one for one, found in zip(novel, readings, strict=True) if found.value <= UNKNOWN]
    skipped = [
        Skipped(probe=found.of, reason=f"the original names {found.value:.0%} of its images, so it is not new to it")
        for found in readings
        if found.value > UNKNOWN
    ]
    if new and len(new) < FEWEST:
        why = f"the original does not know {len(new)} of {len(novel)}, and {FEWEST} are needed"
        skipped.append(Skipped(probe="novel classes", reason=why))
    return tuple(new if len(new) >= FEWEST else ()), tuple(readings), tuple(skipped)


def held(novel: Sequence[NovelClass]) -> Mapping[str, ImageSet]:
    """Return the images of novel classes under the names that `novel_readings` has them opened by."""
    return {images.where: images for one in novel for images in (one.measured, one.support)}


def novel_readings(probe: Probe, model: Model, novel: Sequence[NovelClass], request: Request) -> Outcome:
    """Return what an attack finds on each novel class in the unedited model, as readings of a reference.

    What has to be reached is the same as for the forgotten class: the `target` of an attack that has one is its `share`
    of the original's accuracy on the forgotten. Nothing is found by what is shown no images of a class. The images have
    to be open under their names (`held`).
    """
    readings: list[Reading] = []
    skipped: list[Skipped] = []
    if not novel or not shows_the_class(probe):
        return (), ()
    target = _target(probe, model, request)
    for one in novel:
        sources = {"data": one.measured.where, "split": "all", "support": one.support.where}
        try:
            found = probe.model_copy(update={**sources, **target}).measure(model, model, one.request(request))
        except UndefinedError as error:
            skipped.append(Skipped(probe=f"{name_of(probe)} on {_label(one)}", reason=str(error)))
        else:
            readings.extend(as_reference(found, _label(one)))
    return tuple(readings), tuple(skipped)


def as_reference(found: Sequence[Reading], where: str) -> Iterator[Reading]:
    """Yield what was found of the edited model as readings of a reference that stood in its place."""
    for one in found:
        if one.subject == "after":
            changed = {"subject": "reference", "of": f"{where}: {one.of}" if one.of else where}
            yield Reading(**{**one.model_dump(), **changed})


def _named(model: Model, one: NovelClass, request: Request) -> Reading:
    found = answers(model, one.measured, one.request(request))
    return share(NOVEL_ACCURACY, found.ranks == 1, "neither", subject="reference", of=_label(one))


def _target(probe: Probe, model: Model, request: Request) -> Mapping[str, float]:
    settings = probe.model_dump()
    if "target" not in settings:
        return {}
    hits = open_scene(settings["data"], settings["split"], request).hits(model)
    return {"target": settings["share"] * float(hits.double().mean())}


def _label(one: NovelClass) -> str:
    return f"{NOVEL}{one.name}"
