"""Move a class's name to neutral ground in the text tower's last layer. m sentences, D features, d embedding width."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import report
from clip_unlearn.core.request import Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.readout import Training, solve_readout, train_readout
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import ALIKE, name_rows

PUBLISHED = {"destination": "empty", "wording": "bare", "forget_weight": 1.1, "retain_weight": 0.3}
"""What the published solver takes where nothing else is given."""

GIVE_RETAIN = "Give --retain NAMES or a file."

NUDGE = 0.5
"""Standard deviation of each number that is added to the empty sentence while a class to forget is nearest to it."""

NUDGES = 1000
"""Most such additions."""


@final
class TextSpace(Method):
    """Move the text embedding of the names to a neutral place; the names to keep stay. Images are not touched.

    One solve: the smallest change C of the text readout with ||C||^2 + forget_weight ||F C - S||^2 +
    retain_weight ||H C||^2 least, F the features of the sentences that name the class, S the steps from their
    embeddings to the neutral place, H the features of the names to retain, and likewise those of the background;
    features scaled to mean length 1. Or the published training: a change of rank 5 by Adam. Needs names alone. An edit
    of the last text layer: picture search by picture, probes on images and users of the text features below are not
    affected.
    """

    needs: ClassVar = frozenset({"texts", "retain", "readout"})
    paper: ClassVar = "Kravets and Namboodiri, TMLR 2025 (OpenReview V2SD2uVKEE); the one-solve form is ours"
    ceiling: ClassVar = "F2"
    tunable: ClassVar = {
        "forget_weight": (1e-2, 1e6),
        "retain_weight": (1e6, 1e-2),
        "background_weight": (1e6, 1e-2),
    }

    solver: Literal["ridge", "published"] = "ridge"
    """One solve with squared norms, or the paper's training with norms. `published` also changes four defaults:
    destination empty, wording bare, forget_weight 1.1, retain_weight 0.3."""

    destination: Literal["retain", "empty"] = "retain"
    """The neutral place: the mean of the names to retain, or the empty sentence, pushed away at random while it is
    nearest to a name to forget. What a model says to nothing at all is often close to some class."""

    wording: Literal["both", "templates", "bare"] = "both"
    """Which sentences name a class: the request's templates, the bare name, or both."""

    forget_weight: float = Field(default=10_000.0, gt=0)
    """Weight of reaching the neutral place; infinity reaches it exactly (ridge only)."""

    retain_weight: float = Field(default=1_000.0, ge=0)
    """Weight of holding each sentence that names something to retain."""

    background_weight: float = Field(default=3.0, ge=0)
    """Weight of holding each sentence that names something of the background (ridge only)."""

    rank: int = Field(default=5, ge=1)
    """Published solver: rank of the change."""

    steps: int = Field(default=2_000, ge=1)
    """Published solver: steps of Adam, each with all sentences."""

    learning_rate: float = Field(default=0.01, gt=0)
    """Published solver: step size of Adam."""

    change_weight: float = Field(default=1.0, ge=0)
    """Published solver: weight of the size of the change."""

    wanted_fall: float = Field(default=0.7, gt=0, lt=1)
    """Published solver: share by which the distance to the neutral place must fall, else it starts again."""

    increase: float = Field(default=0.05, gt=0)
    """Published solver: what is added to forget_weight for every new start."""

    trials: int = Field(default=100, ge=1)
    """Published solver: most starts."""

    @model_validator(mode="before")
    @classmethod
    def _with_published_defaults(cls, values: object) -> object:
        """Fill in the published weights, so that the settings in a record say what was used."""
        if isinstance(values, Mapping) and values.get("solver") == "published":
            return {**PUBLISHED, **values}
        return values

    def check(self, model: Model, request: Request) -> None:
        """Check that there are names to retain and that the text tower ends in a linear layer.

        Raises:
            UnsupportedError: naming what is missing and the way out.
        """
        if not (request.retain or request.background):
            raise UnsupportedError(f"TextSpace needs names to retain. {GIVE_RETAIN}")
        if model.readout("text") is None:
            raise UnsupportedError("TextSpace needs a text tower that ends in a linear layer. Use Project instead.")

    def forget(self, model: Model, request: Request) -> Patch:
        """Return a low-rank change of the text readout, or an output map where the family hides its features.

        Empty, with the reason, where the published training never comes near enough.

        Raises:
            UnsupportedError: if the request or the model lacks what the method needs, or chance finds no neutral place.
        """
        self.check(model, request)
        groups = self._held(model, request)
        names = tuple(name for concept in request.forget for name in concept.names)
        with torch.no_grad():
            moved = _features(model, self._sentences(request, names))
            held = [_features(model, self._sentences(request, group)) for group, _ in groups]
            start = _embedded(model, moved)
            neutral = self._neutral(model, unit(start), unit(_embedded(model, held[0])), request.seed)
        if self.solver == "published":
            return self._trained(model, moved, neutral - start, held[0], request.seed)
        weights = [
            torch.full((len(rows),), weight, dtype=torch.float64)
            for rows, (_, weight) in zip(held, groups, strict=True)
        ]
        return _patch(model, self._solved(moved, neutral * start.norm(dim=1, keepdim=True) - start, held, weights))

    def _solved(self, moved: Tensor, ways: Tensor, held: list[Tensor], weights: list[Tensor]) -> LowRank:
        kept = torch.cat(held)
        scale = torch.cat([moved, kept]).norm(dim=1).mean()
        retain_weight = torch.cat(weights).to(kept)
        return solve_readout(
            moved / scale, ways / scale, kept / scale, forget_weight=self.forget_weight, retain_weight=retain_weight
        )

    def _held(self, model: Model, request: Request) -> list[tuple[tuple[str, ...], float]]:
        """Return the groups of names to hold, with the weight of each; the first is also what is neutral ground."""
        if self.solver == "published" and request.retain:
            return [(request.retain, self.retain_weight)]
        background = told_apart(model, request)
        groups = [(request.retain, self.retain_weight), (background, self.background_weight)]
        kept = [group for group in groups if group[0]]
        if not kept:
            raise UnsupportedError(f"TextSpace finds no name that the model tells apart from these. {GIVE_RETAIN}")
        return kept

    def _sentences(self, request: Request, names: tuple[str, ...]) -> list[str]:
        templated = () if self.wording == "bare" else request.sentences(names)
        bare = () if self.wording == "templates" else names
        return list(dict.fromkeys([*templated, *bare]))

    def _neutral(self, model: Model, forget: Tensor, retained: Tensor, seed: int) -> Tensor:
        """Return the unit vector that the names shall move to, given the unit vectors of all names: [1, d]."""
        if self.destination == "retain":
            return unit(retained.mean(0, keepdim=True))
        place = unit(_embedded(model, _features(model, [""])))
        names = torch.cat([forget, retained])
        generator = torch.Generator().manual_seed(seed)
        for _ in range(NUDGES):
            if int((names @ place.T).argmax()) >= len(forget):
                return place
            noise = torch.randn(place.shape, generator=generator, dtype=torch.float64)
            place = unit(place + NUDGE * noise.to(place))
        raise UnsupportedError("No neutral place is farther from the names to forget. Use other names to retain.")

    def _trained(self, model: Model, moved: Tensor, ways: Tensor, held: Tensor, seed: int) -> Patch:
        """Return the first change that comes near enough, with the forget weight raised from start to start."""
        generator, farthest = torch.Generator().manual_seed(seed), 0.0
        for trial in range(self.trials):
            training = Training(
                rank=self.rank,
                steps=self.steps,
                learning_rate=self.learning_rate,
                forget_weight=self.forget_weight + trial * self.increase,
                retain_weight=self.retain_weight,
                change_weight=self.change_weight,
            )
            told = partial(report, f"train, start {trial + 1}", total=self.steps)
            change = train_readout(moved, ways, held, training, generator, told)
            fall = 1 - float((ways - moved @ change.left @ change.right).norm() / ways.norm())
            if fall >= self.wanted_fall:
                return _patch(model, change)
            farthest = max(farthest, fall)
        return Patch(
            reason=f"After {self.trials} starts the distance to the neutral place fell by {farthest:.0%} at most, not "
            f"by {self.wanted_fall:.0%}. Raise forget_weight or lower retain_weight."
        )


def told_apart(model: Model, request: Request) -> tuple[str, ...]:
    """Return the names of the background that the model does not take for a name to forget.

    Those whose cosine with every name to forget, about the mean of all other names, is under 0.97: a synonym in the
    background would hold the class in place.
    """
    if not request.background:
        return ()
    forget = [name for concept in request.forget for name in concept.names]
    moved, background = (unit(name_rows(model, request, names)) for names in (forget, request.background))
    retained = unit(name_rows(model, request, request.retain)) if request.retain else background[:0]
    centre = torch.cat([retained, background]).mean(0)
    alike = (unit(background - centre) @ unit(moved - centre).T).amax(dim=1).tolist()
    return tuple(name for name, value in zip(request.background, alike, strict=True) if value < ALIKE)


def _features(model: Model, sentences: Sequence[str]) -> Tensor:
    """Return what the change acts on, in float64: features before the readout, or embeddings where it hides them."""
    features = model.text_features(sentences)
    return (model.texts(sentences) if features is None else features).double()


def _embedded(model: Model, features: Tensor) -> Tensor:
    """Return the embeddings of features, before any output map that would come after the change."""
    if model.adapter.text.features is None:
        return features
    return model.replace(outputs={}).read_out("text", features.float()).double()


def _patch(model: Model, change: LowRank) -> Patch:
    readout = model.readout("text")
    left, right = change.left.float(), change.right.float()
    if readout is None or model.adapter.text.features is None:
        return Patch(outputs={"text": AffineMap(down=left, up=right)})
    transposed = LowRank(left=left, right=right)
    return Patch(deltas={readout.weight: transposed if readout.transposed else LowRank(left=right.T, right=left.T)})
