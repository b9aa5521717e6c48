"""Forget by smoothing both encoders around pictures that the model makes of the class itself."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final, Literal, final

import torch
from pydantic import Field

from clip_unlearn.core import journal
from clip_unlearn.core.method import Method, Need
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.readings import share
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.methods._examination import Examination, Marks
from clip_unlearn.methods._ground import Wish, examination, names_side, pictures_side, real, synthetic
from clip_unlearn.methods._rows import without_alike
from clip_unlearn.methods._sides import Side
from clip_unlearn.methods._smoothing import Choice, Pace, State, one_round, sensitivities
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.synthesis.album import STANDARD
from clip_unlearn.synthesis.ascend import Ascent

GROWTH: Final = 2
"""Further tensors of each tower after a round that was taken back."""

FALL: Final = 0.5
"""Share of their length that steps lose over all rounds, in a straight line."""

TAKEN_BACK, SETTLED = 0.8, 0.5
"""Factors on the steps: after each round that was taken back, and after each one past the stop."""

LEAST_GAIN: Final = 1e-3
"""Least fall of the mean margin, a difference of cosines, that counts as progress."""

ROUNDING: Final = 1e-9
"""By which a difference of two shares may be off."""


@final
class Lip(Method):
    """Smooth both encoders around synthetic pictures and the names of a class, on few tensors, until it is gone.

    Pictures of the class are made from noise by gradient ascent; they are perturbed by just so much noise that the
    model no longer recognises them, and each is drawn to where its perturbed copies lie. Names are drawn to where
    their sentences lie when other nouns stand in their place, and a little past it. Both are the Lipschitz idea:
    f(x) should differ from f(x + noise) by little compared with the noise. Other names, and synthetic pictures of
    other classes, are held in place. In rounds: the tensors with the most important gradients are chosen, a few steps
    are taken, and the round is kept if held-out synthetic pictures are recognised less and held-out pictures of other
    classes as before; otherwise it is taken back, and the next one has more tensors and shorter steps.

    Departs from the paper (the method `lip_paper`) where that does not start on models of photographs: unit
    embeddings, noise by rule, margins for progress, names and pictures to hold, relative steps, a text side of its own.
    Needs names, and an image tower that gives gradients; no image of anyone.
    """

    needs: ClassVar = frozenset({"texts", "gradients"})
    paper: ClassVar = "after Kravets and Namboodiri, arXiv 2407.07485; departures listed in docs/guide/lip.md are ours"

    pictures: int = Field(default=16, ge=1)
    """Pictures of each class to learn from."""

    stop_pictures: int = Field(default=8, ge=1)
    """Further pictures of each class that only decide when to stop."""

    held_pictures: int = Field(default=24, ge=0)
    """Pictures of classes to retain, one each, half of them of the nearest; a quarter only tells what is lost."""

    source: Literal["synthetic", "real"] = "synthetic"
    """Where pictures come from: from the model, or from the images of the request."""

    ascent: Ascent = STANDARD
    """How pictures are made; they stop as soon as they are recognised, short of what no photograph looks like."""

    towers: Literal["both", "image", "text"] = "both"
    """The encoders that are smoothed."""

    noise_draws: int = Field(default=3, ge=1)
    """Perturbed copies of each picture."""

    beyond: float = Field(default=0.25, ge=0, le=2)
    """How far past the place of other nouns a name goes, as a share of its distance from it."""

    selection: Literal["gain", "mean", "all"] = "gain"
    """Which tensors change: those that gain most for what they risk, those of the largest mean |gradient| as in the
    paper, or all."""

    image_tensors: int = Field(default=6, ge=1)
    """Tensors of the image tower in the first round."""

    text_tensors: int = Field(default=6, ge=1)
    """Tensors of the text tower in the first round."""

    image_change: float = Field(default=0.002, gt=0, le=1)
    """How far the first steps would move held pictures' unit embeddings if their signs were random."""

    text_change: float = Field(default=0.005, gt=0, le=1)
    """How far the first steps would move held names' unit embeddings if their signs were random."""

    hold: float = Field(default=10.0, ge=0)
    """Weight of what is held, a squared distance, beside what is moved, a distance."""

    image_batch: int = Field(default=12, ge=1)
    """Pictures to move, and pictures to hold, in a step."""

    text_batch: int = Field(default=64, ge=1)
    """Names to hold in a step, beside the 32 nearest ones."""

    image_steps: int = Field(default=2, ge=1)
    """Steps of the image tower in a round."""

    text_steps: int = Field(default=5, ge=1)
    """Steps of the text tower in a round."""

    rounds: int = Field(default=20, ge=1)
    """Most rounds."""

    stop: float = Field(default=0.05, ge=0, lt=1)
    """Share of the held-out synthetic pictures, by all names, that may still be recognised at the end."""

    spare: float = Field(default=0.2, ge=0, le=1)
    """Share of the held-out pictures of other classes that a round may lose."""

    settle: int = Field(default=2, ge=0)
    """Rounds of shorter and shorter steps after the stop is reached, in which what is held comes back."""

    sequential: bool = False
    """Several classes one after the other, instead of all at once."""

    def requires(self) -> frozenset[Need]:
        """Return what must be there: images too where the pictures are real ones."""
        return type(self).needs | ({"images"} if self.source == "real" else set())

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed tensors, with readings on held-out synthetic pictures; empty where no round helped.

        Raises:
            UnsupportedError: if the image tower gives no gradients, or the model makes no picture that it recognises.
            DataError: if real pictures are asked for and the request's images show none of the class.
        """
        request = without_alike(model, request)
        groups = [(concept,) for concept in request.forget] if self.sequential else [request.forget]
        draft, readings = model, []
        for place, group in enumerate(groups):
            gone = tuple(concept for done in groups[:place] for concept in done)
            draft, found = self._smoothed(draft, request, group, gone)
            readings.extend(found)
        patch = Patch.between(model, draft)
        reason = "No round lowered what is recognised of held-out synthetic pictures." if patch.empty else ""
        return Patch(deltas=patch.deltas, reason=reason, readings=tuple(readings))

    @torch.no_grad()
    def _smoothed(
        self, model: Model, request: Request, group: Sequence[Concept], gone: Sequence[Concept]
    ) -> tuple[Model, list[Reading]]:
        """Return the model without a group of concepts, and what was found on the pictures held out."""
        some = Request(**{**request.model_dump(), "forget": [concept.model_dump() for concept in group]})
        wish = Wish(learn=self.pictures, stop=self.stop_pictures, held=self.held_pictures, ascent=self.ascent)
        material = real(model, some, wish) if self.source == "real" else synthetic(model, some, wish)
        sides: list[Side] = []
        if self.towers != "text":
            sides.append(pictures_side(model, some, material, self.noise_draws, self.image_batch))
        if self.towers != "image":
            sides.append(names_side(model, some, gone, self.beyond, self.text_batch))
        examined = examination(model, some, material)
        state = self._rounds(model, some, sides, examined, [concept.names for concept in gone])
        edited = model.replace(dict(state.weights)) if state.weights else model
        return edited, _readings(examined, examined(edited), group)

    def _rounds(
        self, model: Model, request: Request, sides: Sequence[Side], examined: Examination, gone: object
    ) -> State:
        """Return the state after the last round that was kept."""
        key = ["lip", model.fingerprint, str(model.device), request.digest, gone, self.model_dump(mode="json")]
        choices = self._choices(model, sides, request.seed)
        state, marks, failed, settled = State(), examined.before, 0, 0
        for number in range(self.rounds):
            report("forget", number, self.rounds)
            turns = [(side, choice, self._pace(side.tower, number, failed, settled)) for side, choice in choices]
            one = partial(one_round, model, state, turns, request.seed + number)
            tried = State.of_tensors(journal.step([*key, number], one), model.device)
            found = examined(model.replace(dict(tried.weights)))
            if self._better(marks, found, examined.before):
                state, marks = tried, found
            else:
                failed += 1
            if marks.accuracy <= self.stop:
                settled += 1
            if settled > self.settle:
                break
        report("forget", self.rounds, self.rounds)
        return state

    def _choices(self, model: Model, sides: Sequence[Side], seed: int) -> list[tuple[Side, Choice]]:
        """Return each side with the tensors that may change and how sensitive held embeddings are to each."""
        eligible, choices = tower_tensors(model, projections=True), []
        for side in sides:
            found = sensitivities(model, side, eligible[side.tower], torch.Generator().manual_seed(seed))
            choices.append((side, Choice(names=tuple(found), sensitivity=found, rule=self.selection)))
        return choices

    def _pace(self, tower: TowerName, number: int, failed: int, settled: int) -> Pace:
        """Return the pace of a round, after so many that were taken back and so many past the stop."""
        shorter = (1 - FALL * number / self.rounds) * TAKEN_BACK**failed * SETTLED**settled
        image = tower == "image"
        return Pace(
            tensors=(self.image_tensors if image else self.text_tensors) + GROWTH * failed,
            steps=self.image_steps if image else self.text_steps,
            change=(self.image_change if image else self.text_change) * shorter,
            hold=self.hold,
        )

    def _better(self, last: Marks, found: Marks, before: Marks) -> bool:
        """Return True when a round is worth keeping.

        What is recognised falls, or is below the stop already and stays there; of the held-out pictures of other
        classes hardly fewer are recognised than before any round.
        """
        gain = float(last.margins.mean() - found.margins.mean())
        stays = last.accuracy <= self.stop and found.accuracy <= self.stop
        lost = before.kept_share - found.kept_share
        return (stays or gain > LEAST_GAIN) and lost <= self.spare + ROUNDING


def _readings(examined: Examination, after: Marks, group: Sequence[Concept]) -> list[Reading]:
    """Return the share of held-out pictures and names that are recognised, before and after."""
    of = ", ".join(concept.name for concept in group)
    pairs: tuple[tuple[Subject, Marks], ...] = (("before", examined.before), ("after", after))
    readings = [
        share("synthetic forget accuracy", marks.known, "low", subject=subject, of=of) for subject, marks in pairs
    ]
    if len(after.kept):
        readings += [
            share("synthetic retain accuracy", marks.kept, "high", subject=subject, of=of) for subject, marks in pairs
        ]
    return readings
