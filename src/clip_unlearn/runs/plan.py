"""From a recipe to checked parts: everything that can be refused is refused here, before anything is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, final

from clip_unlearn import methods, probes
from clip_unlearn.core.config import build
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe
from clip_unlearn.core.record import Skipped
from clip_unlearn.core.request import Evidence, Request, key
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.mentions import mentioned
from clip_unlearn.data.open import Split, another_part, open_data
from clip_unlearn.data.splits import check_disjoint
from clip_unlearn.errors import DataError, SettingError
from clip_unlearn.files import atomic
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts.expand import templates
from clip_unlearn.runs.names import completed
from clip_unlearn.runs.recipe import CAPTION_PROBES, OTHER_PROBES, DataChoice, Recipe
from clip_unlearn.runs.search import Search, find_search


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A recipe whose parts all exist and fit together."""

    recipe: Recipe
    model: Model
    request: Request
    method: Method
    """With a setting that a budget has to choose at its strongest; `runs.budget.resolve` gives the one to use."""

    images: ImageSet | None
    others: tuple[ImageSet, ...]
    """Other labelled images, whose accuracy should not fall."""

    probes: tuple[Probe, ...]
    skipped: tuple[Skipped, ...]
    search: Search | None = None
    """What a budget has to choose; None where every setting is given."""

    selection: ImageSet | None = None
    """The images to choose on: the `select` part of the data, where there are any and a budget has to choose."""


@final
@dataclass(frozen=True, kw_only=True)
class Aids:
    """What attacks are given beside the data that is measured, each "" where nothing is."""

    support: str = ""
    """Images to learn from; the select part of the data if not given."""

    judge: str = ""
    """Model that says what pictures show which others have painted."""

    novel: str = ""
    """Images of classes that the model does not know, for what attacks that are shown a class teach of themselves."""


NONE: Final = Aids()
"""Nothing beside the data."""


def plan(recipe: Recipe, *, model: Model | None = None) -> Plan:
    """Return the checked parts of a recipe; cheap checks come first, the model last.

    Raises:
        InputError: the first thing that is wrong, with the way out.
    """
    search, method = find_search(recipe), make_method(recipe)
    request = make_request(recipe)
    learns = "images" in method.requires()
    data = _measured_part(recipe.data, learns=(learns and recipe.evidence is None) or search is not None)
    images = None if data is None else open_data(data.path, split=data.split)
    others = _open_others(recipe.other_data, images)
    unlabelled = images is not None and not images.labels
    further = (*(OTHER_PROBES if others else ()), *(CAPTION_PROBES if unlabelled else ()))
    asked = tuple(dict.fromkeys((*recipe.probes, *further)))
    chosen, skipped = make_probes(
        asked, data, tuple(one.where for one in others), labelled=not unlabelled, other_senses=_other_senses(method)
    )
    if images is not None:
        _check_shown(images, request)
    request = _with_evidence(request, recipe, images) if learns else request
    selection = None if data is None or search is None else open_data(data.path, split="select")
    request = _with_retained(request, images)
    opened = model or open_recipe_model(recipe)
    request = completed(opened, request, other_names=recipe.other_names, background=recipe.background)
    method.check(opened, request)
    return Plan(
        recipe=recipe,
        model=opened,
        request=request,
        method=method,
        images=images,
        others=others,
        probes=chosen,
        skipped=skipped,
        search=search,
        selection=selection,
    )


def check_output(out: Path, *, force: bool) -> None:
    """Check that the results can be written, before anything is computed.

    Raises:
        OutputError: if the folder has content and `force` is not set.
    """
    atomic.check_free(out, force=force)


def make_method(recipe: Recipe) -> Method:
    """Return the method of a recipe with its settings validated, one that a budget has to choose at its strongest."""
    search = find_search(recipe)
    if search is not None:
        return search.at(search.strongest)
    kind = methods.find(recipe.method.name)
    return build(kind, recipe.method.settings, where=f"method {recipe.method.name}")


def make_request(recipe: Recipe) -> Request:
    """Return the request of a recipe, with the sentences of its template set."""
    return Request(forget=recipe.forget, retain=recipe.retain, templates=templates(recipe.templates), seed=recipe.seed)


def make_probes(
    names: Sequence[str],
    data: DataChoice | None,
    others: Sequence[str] = (),
    *,
    labelled: bool = True,
    other_senses: Sequence[str] = (),
    aids: Aids = NONE,
    settings: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> tuple[tuple[Probe, ...], tuple[Skipped, ...]]:
    """Return the probes that can run, and those that cannot with the reason.

    `others` are further data sources, for the probes that measure on other data too. Without class labels (`labelled`)
    probes that need them are left out. `other_senses` are phrases in which a name means something else, for the probes
    that sort images by their captions. `aids` are for audits; `settings` are further ones by the name of the probe.
    """
    given = {"others": tuple(others), "other_senses": tuple(other_senses), "judge": aids.judge}
    chosen: list[Probe] = []
    skipped: list[Skipped] = []
    for name in names:
        kind = probes.find(name)
        if data is None and kind.needs_images:
            skipped.append(Skipped(probe=name, reason="it needs images, and no data was given"))
            continue
        if data is not None and kind.needs_labels and not labelled:
            skipped.append(Skipped(probe=name, reason="it needs class labels, and the data has none"))
            continue
        if not others and kind.needs_others:
            skipped.append(Skipped(probe=name, reason="it needs other data, and none was given"))
            continue
        values: dict[str, object] = {} if data is None else {"data": data.path, "split": data.split}
        if data is not None and "support" in kind.model_fields:
            values["split"] = reported(data, aids.support)
            values["support"] = aids.support or another_part(data.path, "select")
        values |= {field: value for field, value in given.items() if field in kind.model_fields}
        chosen.append(build(kind, {**values, **settings.get(name, {})}, where=f"probe {name}"))
    return tuple(chosen), tuple(skipped)


def reported(data: DataChoice, support: str = "") -> Split:
    """Return the part that an attack is measured on: not all of the data, where it learns from another part of them."""
    return "audit" if data.split == "all" and not support else data.split


def _other_senses(method: Method) -> tuple[str, ...]:
    """Return the phrases in which a name means something else that a method was given; () where it has none."""
    senses: tuple[str, ...] = method.model_dump().get("other_senses", ())
    return senses


def _check_shown(images: ImageSet, request: Request) -> None:
    """Check that the data shows what is to be forgotten: as a class, or in some caption."""
    if images.labels or not len(images.captions):
        for concept in request.forget:
            images.class_index(concept.name)
    elif not bool(mentioned(images, request).any()):
        names = ", ".join(name for concept in request.forget for name in concept.names)
        raise DataError(
            f"No caption of {images.where} has any of these in it: {names}. Give other names or other data."
        )


def open_recipe_model(recipe: Recipe) -> Model:
    """Return the model of a recipe."""
    choice = recipe.model
    return open_model(choice.id, revision=choice.revision, offline=choice.offline, device=choice.device)


def _measured_part(data: DataChoice | None, *, learns: bool) -> DataChoice | None:
    """Return the data to measure on: the audit part alone where the method or a budget learns from another."""
    if data is None or data.split != "all" or not learns:
        return data
    return DataChoice(path=data.path, split="audit")


def _open_others(choices: Sequence[DataChoice], measured: ImageSet | None) -> tuple[ImageSet, ...]:
    """Return the other data, each a set of its own with labels."""
    seen = {"" if measured is None else measured.where}
    found: list[ImageSet] = []
    for choice in choices:
        images = open_data(choice.path, split=choice.split)
        if not images.classes:
            raise DataError(f"{images.where} has no class labels to measure accuracy with. Give labelled images.")
        if images.where in seen:
            raise SettingError(f"Data {images.where} are given twice. Give other data for --other-data.")
        seen.add(images.where)
        found.append(images)
    return tuple(found)


def _with_evidence(request: Request, recipe: Recipe, measured: ImageSet | None) -> Request:
    """Return the request with the images to learn from, none of which may be measured on."""
    stop = None if recipe.data is None else DataChoice(path=recipe.data.path, split="stop")
    choice = recipe.evidence or stop
    if choice is None:
        return request
    images = open_data(choice.path, split=choice.split)
    if measured is not None:
        check_disjoint(evidence=images, measured=measured)
    evidence = Evidence(where=images.where, digest=images.digest)
    return Request(**{**request.model_dump(), "evidence": evidence.model_dump()})


def _with_retained(request: Request, images: ImageSet | None) -> Request:
    """Fill an empty retain list with the other classes of the data."""
    if request.retain or images is None:
        return request
    barred = {key(name) for concept in request.forget for name in concept.names}
    retain = tuple(name for name in images.classes if key(name) not in barred)
    return Request(**{**request.model_dump(), "retain": retain})
