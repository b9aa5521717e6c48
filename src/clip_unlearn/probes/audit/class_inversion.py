"""W10: what a model paints when asked for the name of what it forgot. n pictures, k classes, d embedding width."""

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, final

import torch
from PIL.Image import Image
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import share, worst
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import class_texts, forget_indices, measured_images
from clip_unlearn.errors import UndefinedError, UnsupportedError
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.maths.vectors import unit
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.audit._scene import BATCH, Forms, hidden
from clip_unlearn.synthesis.ascend import Ascent, Classes, synthesise
from clip_unlearn.synthesis.canvas import noise
from clip_unlearn.synthesis.contact import as_image

ALIKE: Final = 0.999
"""Cosine of how two models place pictures about their mean, from which on they count as one."""

COMPARED: Final = 8
"""Pictures of noise that two models are compared on."""

WAYS: Final = 3
"""Passes of a tower that a step takes: there, and the way back that is twice as long."""


@final
class ClassInversion(Audit):
    """Share of pictures painted of the name to forget that another encoder recognises as the class.

    Pictures climb the cosine of v(x) with the name's text row t(f), less a share of that with the nearest other class,
    from noise (`synthesis.ascend`); the judge then names each of them among all classes. The model that paints would
    recognise its pictures in any case, as noise that happens to score; another encoder does so only where there is
    something of the class to be seen.

    It needs a judge that recognises what the original paints: to encoders of another kind such pictures are mostly
    noise, and where the reading before the edit is low, a low one after it shows nothing. Nor does it elsewhere: the
    control, the original with the names taken out of its last image layer, holds the class and mostly does not paint
    it. A high reading shows that the class can still be painted. The interval is over pictures, which share a model
    and a judge.
    """

    code: ClassVar = "W10"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data whose classes are told apart; its images are not looked at."""

    judge: str = ""
    """Model that says what the pictures show, as `open_model` takes it; none of those that are compared."""

    count: int = Field(default=8, ge=1)
    """Pictures of each name."""

    steps: int = Field(default=100, ge=1, le=10_000)
    """Steps of each picture."""

    shifts: tuple[float, ...] = Field(default=(0.2,), min_length=1)
    """Largest shifts of a picture in its first step, as shares of its side: what holds under shifts is seen by others
    more often. Pictures are painted with each."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: three models paint one name; nothing without a judge."""
        if not self.judge:
            return Work()
        painted = 3 * len(self.shifts) * self.count
        judged = size.classes * size.templates
        return Work(images=painted * (1 + WAYS * self.steps), sentences=judged, names=size.names)

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the share of pictures that the judge recognises, of the original, the control and the edited model.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if there is no judge, if it is one of the models compared, or if an image tower gives no
                gradients.
        """
        judge = open_judge(self.judge, before, after)
        images = measured_images(self.data, self.split, request)
        names, asked = images.classes, forget_indices(images, request)
        texts, labels = class_texts(judge, request, names), torch.tensor(asked).repeat_interleave(self.count)
        subjects: tuple[Subject, ...] = ("before", "control", "after")
        name, readings = "class inversion accuracy", list[Reading]()
        for subject, model in zip(subjects, (before, hidden(before, request, "image"), after), strict=True):
            rows = class_texts(model, request, names)
            hits: Forms = {
                f"shift {shift:g}": _recognised(
                    judge, self._painted(model, rows, asked, shift, request.seed), texts, labels
                )
                for shift in self.shifts
            }
            readings += [share(name, right, "low", subject=subject, of=form) for form, right in hits.items()]
            readings.append(worst(f"{WORST}{name}", hits, subject=subject, what="forms of the attack"))
        return tuple(readings)

    def _painted(self, model: Model, rows: Tensor, asked: Sequence[int], shift: float, seed: int) -> list[Image]:
        """Return pictures of the classes asked for, class by class, by a model with classifier rows [k, d]."""
        try:
            made = synthesise(
                model,
                rows[list(asked)],
                classes=Classes(rows=rows, wanted=tuple(asked)),
                count=self.count,
                settings=Ascent(steps=self.steps, shift=shift),
                generator=torch.Generator().manual_seed(seed),
            )
        except UnsupportedError as error:
            raise UndefinedError("the image tower gives no gradients to paint by") from error
        return [as_image(pixels) for pixels in made.pixels]


def open_judge(where: str, *models: Model) -> Model:
    """Return the model that is to say what pictures show.

    Raises:
        UndefinedError: if none is named, or it embeds pictures as one of `models` does.
        InputError: if it cannot be opened.
    """
    if not where:
        raise UndefinedError("it needs another encoder as the judge of its pictures. Give one with --judge MODEL.")
    judge = open_model(where)
    if any(_alike(judge, model) for model in models):
        raise UndefinedError(f"the judge {where} sees what the model sees. Give another encoder with --judge MODEL.")
    return judge


@torch.no_grad()
def _alike(judge: Model, model: Model) -> bool:
    """Return whether two models embed pictures alike, so that one is the other, or a copy of it in another format."""
    space, generator = model.adapter.pixels, torch.Generator().manual_seed(0)
    pictures = [as_image(one) for one in noise(COMPARED, (space.height, space.width), (4, 8), generator)]
    first, second = (one.images(one.adapter.prepare(pictures)).cpu().float() for one in (judge, model))
    if first.shape != second.shape:
        return False
    return bool(((unit(first - first.mean(0)) * unit(second - second.mean(0))).sum(1) > ALIKE).all())


@torch.no_grad()
def _recognised(judge: Model, pictures: Sequence[Image], texts: Tensor, labels: Tensor) -> Tensor:
    """Return which pictures the judge names as they were meant, by its rows [k, d] and the classes [n]: [n]."""
    parts = [pictures[first : first + BATCH] for first in range(0, len(pictures), BATCH)]
    rows = torch.cat([judge.images(judge.adapter.prepare(part)) for part in parts])
    return (ranks(cosines(rows, texts), labels.to(rows.device)) == 1).cpu()
