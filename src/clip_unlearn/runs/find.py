"""Which images of a set show a concept, with the model itself as the filter: a list, a sheet and labelled data."""

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

import torch
from PIL import Image
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Request, key
from clip_unlearn.core.versions import version
from clip_unlearn.data.embed import Embeddings, embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.data.selection import FILE, FoundImage, names_selection
from clip_unlearn.errors import DataError, SettingError
from clip_unlearn.files import atomic
from clip_unlearn.maths.mixture import Component, most_with_mean
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts.expand import templates
from clip_unlearn.runs.find_names import SENTENCES, Names, names_of
from clip_unlearn.runs.find_score import WEIGHT, Scores, score
from clip_unlearn.runs.find_sheet import found_sheet
from clip_unlearn.runs.find_truth import truth_of
from clip_unlearn.runs.found import Calibration, Counts, Expected, Finding, FindOrder, Normal, Rival

LIST_FILE: Final = "forget-set.csv"
SHEET_FILE: Final = "contact.png"

IMPROBABLE: Final = 0.05
"""Probability up to which an image counts as another name when the result is opened as data."""

RIVALS: Final = 10
"""Most rivals that are named."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A finding with what the files beside it are made from."""

    finding: Finding
    order: Tensor
    """Readable images, most probable first, as rows of the set."""


def find(order: FindOrder, out: Path, *, force: bool = False, model: Model | None = None) -> Finding:
    """Look for the concept and write `out`: find.json, forget-set.csv, contact.png.

    `open_data(out)` gives the images with labels: the concept for those chosen, the other name that scores highest for
    those that show the concept with a probability of at most 0.05; what lies between is left out. `out` appears whole
    or not at all.

    Raises:
        InputError: if a name, the model, the data or the output folder is not usable.
        DataError: if no image is probable enough, naming the most probable.
        StorageError: if the disk refuses.
    """
    out = Path(os.path.abspath(out))
    atomic.check_free(out, force=force)
    _check_others(order)
    sentences = SENTENCES if order.templates is None else templates(order.templates)
    request = Request(forget=(order.name,), retain=order.others, templates=sentences)
    if names_selection(order.data):
        raise DataError(f"{order.data} is a result of find. Give the images themselves.")
    images = open_data(order.data)
    choice = order.model
    opened = model or open_model(choice.id, revision=choice.revision, offline=choice.offline, device=choice.device)
    found = look(opened, images, request, order)
    with atomic.new_folder(out, force=force) as folder:
        _write(folder, images, found)
    return found.finding


def _check_others(order: FindOrder) -> None:
    own = {key(name) for name in order.name.names}
    if both := next((name for name in order.others if key(name) in own), None):
        raise SettingError(f"'{both}' is a name to look for and one of what it is not. Leave it out of one of them.")


def look(model: Model, images: ImageSet, request: Request, order: FindOrder) -> Found:
    """Return what is found of the one concept of a request in some images; nothing is written.

    The chosen are as many as can be, most probable first, while their mean probability is at least `order.precision`.

    Raises:
        InputError: see `find`.
    """
    names = names_of(model, request, order.background)
    embedded = embed_images(model, images, progress=partial(report, "embed"))
    scores = score(embedded.vectors, names, model.logit_scale)
    picked = most_with_mean(scores.probabilities, order.precision)[: order.limit]
    if not len(picked):
        raise DataError(_none(images, embedded, names, scores, order.precision))
    chosen = torch.zeros(len(embedded.kept), dtype=torch.bool)
    chosen[picked] = True
    finding = Finding(
        version=version(),
        model=Source(where=model.source.where, revision=model.source.revision, digest=model.fingerprint),
        data=Source(where=images.where, digest=images.digest, count=len(images)),
        order=order,
        concept=names.concept,
        sentences=request.templates,
        names=len(names.others),
        neutral=names.neutral,
        calibration=_calibration(scores),
        threshold=float(scores.probabilities[picked].min()),
        counts=_counts(scores, chosen),
        expected=_expected(scores, chosen),
        rivals=_rivals(names, scores, chosen),
        truth=truth_of(images, names.concept, embedded.kept, chosen, scores.probabilities),
        images=_images(images, embedded, names, scores, chosen),
        quarantine=embedded.quarantine,
    )
    ranked = scores.probabilities.argsort(descending=True, stable=True)
    return Found(finding=finding, order=torch.tensor(embedded.kept)[ranked])


def _none(images: ImageSet, embedded: Embeddings, names: Names, scores: Scores, precision: float) -> str:
    best = int(scores.probabilities.argmax())
    return (
        f"No image of {images.where} shows '{names.concept.name}' with an expected precision of {precision:g}: the "
        f"most probable is '{images.keys[embedded.kept[best]]}' with {float(scores.probabilities[best]):.2f}, and "
        f"'{names.others[int(scores.rivals[best])]}' comes next. If that is the same thing, give it as a synonym: "
        f"--name '{names.concept.name} | ...'; or ask for a lower --precision."
    )


def _calibration(scores: Scores) -> Calibration:
    def normal(component: Component) -> Normal:
        return Normal(mean=component.mean, deviation=component.variance**0.5)

    return Calibration(
        share=scores.mixture.share,
        match=normal(scores.mixture.upper),
        foreign=normal(scores.mixture.lower),
        expected_match=normal(scores.matches),
        expected_foreign=normal(scores.foreign),
        weight=WEIGHT,
        rounds=scores.mixture.rounds,
    )


def _improbable(scores: Scores, chosen: Tensor) -> Tensor:
    return ~chosen & (scores.probabilities <= IMPROBABLE)


def _counts(scores: Scores, chosen: Tensor) -> Counts:
    other, picked = int(_improbable(scores, chosen).sum()), int(chosen.sum())
    return Counts(readable=len(chosen), chosen=picked, labelled_other=other, between=len(chosen) - picked - other)


def _expected(scores: Scores, chosen: Tensor) -> Expected:
    own, total = float(scores.probabilities[chosen].sum()), float(scores.probabilities.sum())
    precision = own / int(chosen.sum())
    return Expected(precision=precision, wrong=1 - precision, images=total, missed=1 - own / total)


def _rivals(names: Names, scores: Scores, chosen: Tensor) -> tuple[Rival, ...]:
    least = scores.probabilities[chosen].min()
    refused = ~chosen & (scores.mixture.posterior(scores.margins) >= least)
    won, lost = (Counter(scores.rivals[rows].tolist()) for rows in (chosen, refused))
    both = won + lost
    ordered = sorted(both, key=lambda place: (-both[place], names.others[place]))
    return tuple(Rival(name=names.others[place], chosen=won[place], refused=lost[place]) for place in ordered[:RIVALS])


def _images(
    images: ImageSet, embedded: Embeddings, names: Names, scores: Scores, chosen: Tensor
) -> tuple[FoundImage, ...]:
    improbable = _improbable(scores, chosen).tolist()
    rivals, probabilities = scores.rivals.tolist(), scores.probabilities.tolist()
    found = []
    for place, row in enumerate(embedded.kept):
        other = names.others[rivals[place]]
        label = names.concept.name if chosen[place] else other if improbable[place] else None
        found.append(
            FoundImage(
                key=images.keys[row],
                probability=probabilities[place],
                chosen=bool(chosen[place]),
                other=other,
                label=label,
            )
        )
    return tuple(found)


def _write(folder: Path, images: ImageSet, found: Found) -> None:
    finding = found.finding
    by_key = {one.key: one for one in finding.images}
    ranked = [(row, by_key[images.keys[row]]) for row in found.order.tolist()]
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("key", "probability", "chosen", "other"))
    table.writerows((one.key, f"{one.probability:.6f}", "yes" if one.chosen else "no", one.other) for _, one in ranked)
    atomic.write_text(folder / LIST_FILE, text.getvalue())
    chosen, below = (
        [(row, one.probability) for row, one in ranked if one.chosen is wanted] for wanted in (True, False)
    )
    atomic.write_bytes(folder / SHEET_FILE, _png(found_sheet(images, chosen, below, finding.concept.name)))
    atomic.write_json(folder / FILE, finding.model_dump(mode="json"))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
