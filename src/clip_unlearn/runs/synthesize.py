"""Pictures that a model makes of names, as a folder: images, a list of them, a manifest and a contact sheet."""

import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from clip_unlearn.core.journal import journaling
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Request, key
from clip_unlearn.core.versions import version
from clip_unlearn.data.texts import name_rows
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import without_alike
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts.expand import templates
from clip_unlearn.runs.manifest import Made, Manifest, Order, Picture, Threshold
from clip_unlearn.runs.names import completed
from clip_unlearn.runs.run import JOURNAL
from clip_unlearn.synthesis.album import (
    STANDARD,
    Album,
    acceptance_threshold,
    attempt_album,
    class_list,
    make_album,
)
from clip_unlearn.synthesis.ascend import Ascent
from clip_unlearn.synthesis.contact import as_image, contact_sheet
from clip_unlearn.synthesis.studio import PROMPTS

MANIFEST_FILE: Final = "manifest.json"
LIST_FILE: Final = "metadata.jsonl"
SHEET_FILE: Final = "contact.png"

REFERENCE_NAMES: Final = 4
REFERENCE_PICTURES: Final = 8
"""How many names, the most distinct ones, and pictures of each the threshold is taken from."""

UNSAFE: Final = '<>:"/\\|?*'
"""Letters that some file system refuses in a name."""

LONGEST: Final = 80
"""Most bytes of a folder's name."""


def synthesize(
    order: Order, out: Path, *, force: bool = False, resume: bool = False, model: Model | None = None
) -> Manifest:
    """Make the pictures and write `out`: a folder per name, metadata.jsonl, manifest.json, contact.png.

    `open_data(out)` gives the accepted pictures with their names as labels. `out` appears whole or not at all; batches
    that are done stand in `out`.journal beside it until then, and `resume` does not make them again.

    Raises:
        InputError: if a name, the model or the output folder is not usable.
        UnsupportedError: if fewer than half of the pictures of a name are accepted, naming how many.
        StorageError: if the disk refuses.
    """
    out = Path(os.path.abspath(out))
    atomic.check_free(out, force=force)
    asked = {key(name) for concept in order.names for name in concept.names}
    request = Request(
        forget=order.names,
        retain=tuple(name for name in order.retain if key(name) not in asked),
        templates=templates(order.templates),
        seed=order.seed,
    )
    choice = order.model
    opened = model or open_model(choice.id, revision=choice.revision, offline=choice.offline, device=choice.device)
    if not request.retain:
        nouns = completed(opened, request, other_names="none", background="nouns")
        request = without_alike(opened, nouns)
    journal = out.with_name(out.name + JOURNAL)
    try:
        with journaling(journal, resume=resume):
            threshold, settings = _threshold(opened, request, order)
            album = make_album(
                opened, request, request.forget_names, count=order.count, settings=settings, seed=order.seed
            )
            manifest = _manifest(opened, request, order, threshold, settings, album)
            with atomic.new_folder(out, force=force) as folder:
                _write(folder, album, manifest)
            return manifest
    except UnsupportedError:
        # What cannot be done as asked is not gone on with.
        shutil.rmtree(journal, ignore_errors=True)
        raise


def _threshold(model: Model, request: Request, order: Order) -> tuple[Threshold, Ascent]:
    """Return the threshold by the order's rule, and the settings to make pictures with that exceed it."""

    def settings(probability: float) -> Ascent:
        return Ascent(**{**STANDARD.model_dump(), "steps": order.steps, "probability": probability})

    if order.probability is not None:
        return Threshold(value=order.probability, rule="given"), settings(order.probability)
    names = _distinct(model, request, sorted(request.retain or request.background))
    reference = attempt_album(
        model, request, names, count=REFERENCE_PICTURES, settings=settings(STANDARD.probability), seed=order.seed
    )
    value = acceptance_threshold(reference)
    found = Threshold(value=value, rule="easiest retained name", names=names, pictures=REFERENCE_PICTURES)
    return found, settings(value)


def _distinct(model: Model, request: Request, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that are least like any other one: the model knows them, and their pictures are easy to make."""
    rows = unit(name_rows(model, request, names))
    nearest = (rows @ rows.T).fill_diagonal_(-1).amax(1)
    return tuple(names[place] for place in nearest.argsort(stable=True).tolist()[:REFERENCE_NAMES])


def _manifest(
    model: Model, request: Request, order: Order, threshold: Threshold, settings: Ascent, album: Album
) -> Manifest:
    folders = _folders(album.names)
    accepted = album.accepted.tolist()
    labels = album.labels.tolist()
    made = tuple(
        Made(
            name=name,
            folder=folder,
            pictures=labels.count(index),
            accepted=sum(ok for ok, label in zip(accepted, labels, strict=True) if label == index),
            diversity=alike,
        )
        for index, (name, folder, alike) in enumerate(
            zip(album.names, folders, album.accepted_only().diversity(), strict=True)
        )
    )
    pictures = tuple(
        Picture(
            name=album.names[label],
            file=f"{folders[label]}/{row % order.count:04d}.png" if accepted[row] else None,
            accepted=accepted[row],
            probability=float(album.probabilities[row]),
            steps=int(album.steps[row]),
        )
        for row, label in enumerate(labels)
    )
    return Manifest(
        version=version(),
        model=Source(where=model.source.where, revision=model.source.revision, digest=model.fingerprint),
        order=order,
        threshold=threshold,
        classes=len(class_list(request)),
        sentences=request.templates,
        prompts=PROMPTS,
        settings=settings,
        made=made,
        pictures=pictures,
    )


def _write(folder: Path, album: Album, manifest: Manifest) -> None:
    for made in manifest.made:
        (folder / made.folder).mkdir()
    lines = []
    for pixels, picture in zip(album.pixels, manifest.pictures, strict=True):
        if picture.file is not None:
            atomic.write_bytes(folder / picture.file, _png(as_image(pixels)))
            lines.append(json.dumps({"file_name": picture.file, "label": picture.name}, ensure_ascii=False))
    atomic.write_text(folder / LIST_FILE, "".join(f"{line}\n" for line in lines))
    atomic.write_bytes(folder / SHEET_FILE, _png(contact_sheet(album)))
    atomic.write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _folders(names: Sequence[str]) -> tuple[str, ...]:
    """Return a folder name for each class: its own, but for what file systems refuse, and no two alike."""
    taken = {name.casefold() for name in (MANIFEST_FILE, LIST_FILE, SHEET_FILE)}
    found = []
    for name in names:
        plain = "".join("_" if letter in UNSAFE else letter for letter in name)
        plain = plain.encode()[:LONGEST].decode(errors="ignore").rstrip(" .")
        plain = f"_{plain}" if plain.startswith(".") or not plain else plain
        number, folder = 2, plain
        while folder.casefold() in taken:
            number, folder = number + 1, f"{plain}-{number}"
        taken.add(folder.casefold())
        found.append(folder)
    return tuple(found)
