"""A few pictures with the model's answer before and after."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Sample
from clip_unlearn.data.answers import answers, forget_indices, neighbour_indices
from clip_unlearn.data.images import ImageSet
from clip_unlearn.files import atomic
from clip_unlearn.runs.plan import Plan

FORGOTTEN, NEAR = 6, 6
SIDE = 128


def save_samples(prepared: Plan, edited: Model, folder: Path) -> tuple[Sample, ...]:
    """Write up to 12 small pictures into `folder`/samples and return them with both answers.

    The first readable ones in the data's order: up to 6 of the classes to forget, up to 6 of near neighbours.
    """
    images = prepared.images
    if images is None or not images.classes:
        return ()
    first = answers(prepared.model, images, prepared.request)
    second = answers(edited, images, prepared.request)
    forget = forget_indices(images, prepared.request)
    near = neighbour_indices(first.texts, forget, 3)
    chosen = [*_spread(first.labels, forget, FORGOTTEN), *_spread(first.labels, near, NEAR)]
    (folder / "samples").mkdir()
    samples = []
    for number, row in enumerate(chosen):
        name = f"{number:02d}.jpg"
        atomic.write_bytes(folder / "samples" / name, _thumbnail(images, first.kept[row]))
        truth, before, after = (int(answer[row]) for answer in (first.labels, first.predictions, second.predictions))
        names = images.classes
        samples.append(Sample(picture=name, truth=names[truth], before=names[before], after=names[after]))
    return tuple(samples)


def _spread(labels: Tensor, classes: Sequence[int], count: int) -> list[int]:
    """Return up to `count` rows, dealt evenly over the classes."""
    rows = [(labels == index).nonzero().flatten().tolist() for index in classes]
    dealt = [row[turn * max(1, len(row) // count)] for turn in range(count) for row in rows if turn < len(row)]
    return dealt[:count]


def _thumbnail(images: ImageSet, index: int) -> bytes:
    picture = images.picture(index).convert("RGB")
    scale = SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    buffer = BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=88)
    return buffer.getvalue()
