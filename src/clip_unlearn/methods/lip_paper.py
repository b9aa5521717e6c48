"""The published Lip, with the defects of its code answered: smooth both towers around pictures that the model made."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field, field_validator
from torch import Tensor

from clip_unlearn.core import readings
from clip_unlearn.core.journal import step
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import SYNTHETIC
from clip_unlearn.core.request import Request
from clip_unlearn.files import digest
from clip_unlearn.methods._published_loop import DEVIATIONS, SELECTED, Adam, Loop, State, class_rows
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.synthesis.ascend import Classes
from clip_unlearn.synthesis.published import PublishedAscent, climb


@final
class LipPaper(Method):
    """The published Lip for comparison: pictures from noise, then a Lipschitz loss on both towers.

    Makes pictures of the class by ascent from noise. Then, epoch by epoch, one step of Adam on (1 / 2S) sum over draws
    and pictures of (||t - stop(v(x'))|| + ||v(x) - stop(v(x'))||) / (2 ||x - x'||), x' the picture with noise, t the
    embedding of its sentence, in the tensors with the largest mean |gradient| of each tower. An epoch that does not
    lower the accuracy on pictures held back is undone, and the next one takes more noise and more tensors. Unlike the
    authors' code it is judged by pictures that it was not trained on, keeps to one pixel space, never returns a failed
    state, and takes several classes. Needs names alone.
    """

    needs: ClassVar = frozenset({"texts", "gradients", "retain"})
    paper: ClassVar = "Kravets and Namboodiri, arXiv 2407.07485"
    ceiling: ClassVar = "F5"

    pictures: int = Field(default=64, ge=1, le=1024)
    """Pictures of each concept to train on, all in one step."""

    stop_pictures: int = Field(default=16, ge=1, le=1024)
    """Further pictures of each concept, not trained on, by which epochs are judged."""

    ascent: PublishedAscent = PublishedAscent()
    """How pictures are made."""

    sentence: str = "A picture of {}."
    """What stands for the class on the side of the texts, with {} for its name."""

    draws: int = Field(default=25, ge=1, le=1000)
    """Noise draws for each picture and step."""

    schedule: Literal["transformer", "convolutional"] = "transformer"
    """How many tensors are trained: the published numbers for transformers, or those for a convolutional image tower
    with attention pooling, in which convolutions and positions are left alone."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """Step size of Adam."""

    weight_decay: float = Field(default=0.2, ge=0)
    """Weight decay of what is trained, added to the gradient as published; it shrinks weights whatever the loss says.
    """

    decoupled: bool = False
    """Whether weights shrink by learning_rate x weight_decay beside the step instead."""

    epochs: int = Field(default=30, ge=1, le=10_000)
    """Most steps, counting those that are undone."""

    stop_accuracy: float = Field(default=0.1, ge=0, lt=1)
    """Accuracy on the pictures held back at which the method is done."""

    @field_validator("sentence", mode="after")
    @classmethod
    def _check_sentence(cls, sentence: str) -> str:
        if sentence.count("{}") != 1:
            raise ValueError(f"{sentence!r} must hold {{}} exactly once")
        return sentence

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the change of the selected weights that scored best; empty, with the reason, where no epoch helped.

        Raises:
            UnsupportedError: if there is nothing to tell the class from, the image tower gives no gradients, or too few
                pictures are recognised.
        """
        self.check(model, request)
        key = ["lip_paper", model.fingerprint, self.model_dump(mode="json"), request.digest]
        loop = self._loop(model, request, key)
        state = State(random=_seeded(request.seed, "noise").get_state())
        while not self._done(state):
            compute = partial(_advanced, loop, state)
            state = State.of_tensors(step([*key, state.epoch], compute), model.device)
            report("forget", state.epoch, self.epochs)
        hits = loop.hits(state.weights)
        measured = () if hits is None else (readings.share(SYNTHETIC, hits, "low"),)
        if not state.weights:
            return Patch(reason=self._reason(state, len(request.forget) * self.stop_pictures), readings=measured)
        return Patch(deltas=Patch.between(model, model.replace(state.weights)).deltas, readings=measured)

    def _done(self, state: State) -> bool:
        return state.best <= self.stop_accuracy or state.epoch >= self.epochs or state.place >= len(DEVIATIONS)

    def _reason(self, state: State, count: int) -> str:
        return (
            f"In {state.epoch} epochs, each undone, the accuracy on {count} synthetic pictures that were not trained "
            f"on never fell below {state.best:.2f}, where one picture counts {1 / count:.4f}. Use a larger "
            "learning_rate or another method."
        )

    def _loop(self, model: Model, request: Request, key: Sequence[object]) -> Loop:
        candidates = request.sentences((*request.forget_names, *(request.retain or request.background)))
        with torch.no_grad():
            rows = class_rows(model, candidates, len(request.templates))
        made = [self._pictures(model, request, place, rows, key) for place in range(len(request.forget))]
        return Loop(
            model=model,
            train=tuple(pictures[: self.pictures] for pictures in made),
            stop=tuple(pictures[self.pictures :] for pictures in made),
            said=tuple(self.sentence.replace("{}", name) for name in request.forget_names),
            candidates=candidates,
            templates=len(request.templates),
            towers=tower_tensors(model, convolutions=self.schedule == "transformer"),
            selected=SELECTED[self.schedule],
            draws=self.draws,
            adam=Adam(learning_rate=self.learning_rate, weight_decay=self.weight_decay, decoupled=self.decoupled),
            rows=rows,
        )

    def _pictures(self, model: Model, request: Request, place: int, rows: Tensor, key: Sequence[object]) -> Tensor:
        """Return the normalised pictures of one concept, which are exactly those that were accepted."""
        name, count = request.forget[place].name, self.pictures + self.stop_pictures

        def make() -> dict[str, Tensor]:
            classes, generator = Classes(rows=rows, wanted=(place,)), _seeded(request.seed, name)
            target = rows[place : place + 1]
            found = climb(model, target, classes, count=count, settings=self.ascent, generator=generator)
            return {"pixels": found.pixels}

        pixels = step([*key, "pictures", name], make)["pixels"]
        return model.adapter.pixels.normalise(pixels.to(model.device))


def _advanced(loop: Loop, state: State) -> dict[str, Tensor]:
    return loop.after(state).as_tensors()


def _seeded(seed: int, name: str) -> torch.Generator:
    """Return a generator of its own for every part of the work, so that none depends on how much another drew."""
    return torch.Generator().manual_seed(int(digest.of_json([seed, name])[:15], 16))
