"""Our closed form: send a class's names past a neutral place and hold the rest. d embedding width, m concepts."""

from typing import ClassVar, Literal, Self, final

from pydantic import Field

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.methods._overshoot import overshoot
from clip_unlearn.methods._rows import Pool, check_apart, concept_rows, held_rows, neutral_direction


@final
class Redirect(Method):
    """Move the names to forget towards what stands for no class, and a little past it; hold all other names.

    argmin_W ||W - I||^2 + forget_weight ||W T_f - T_0||^2 + retain_weight ||W T_r - T_r||^2 with the destination
    T_0 = T_f - strength (T_f - n n^T T_f), n the neutral direction: at strength 1 a name keeps only what it has in
    common with the neutral place, beyond 1 its own part is turned round, and other names of the class fall with it.
    Needs texts only. An edit of the last layer: it suppresses outputs, it removes nothing from the features below.
    """

    needs: ClassVar = frozenset({"texts"})
    paper: ClassVar = "ours; the ridge form without a destination is that of arXiv 2512.14137"
    ceiling: ClassVar = "F2"
    tunable: ClassVar = {
        "strength": (0.05, 3.0),
        "forget_weight": (1e-2, 1e6),
        "retain_weight": (1e6, 1e-2),
        "background_weight": (1e6, 1e-2),
    }

    strength: float | None = Field(default=None, gt=0, le=4)
    """How far to go: 1 is the neutral place, more overshoots. Without a value it follows from how well this model's
    text tower carries over from a noun to its synonyms, between 1 and 2; 1.3 where it knows too few."""

    destination: str = "retain"
    """The neutral place: "retain" for the mean name, "empty" for the empty sentence, or a sentence."""

    side: Literal["image", "text", "both"] = "image"
    """The tower to edit. Image: scores with a name t become those with W t. Text: the name's embedding itself moves,
    and image search by image is untouched. Both: what one side leaves, the other takes."""

    forget_weight: float = Field(default=1e6, gt=0)
    """Weight of reaching the destination (lambda); infinity reaches it exactly."""

    retain_weight: float = Field(default=1000.0, ge=0)
    """Weight of holding each name to retain (mu)."""

    background_weight: float = Field(default=3.0, ge=0)
    """Weight of holding each name of the background. More spares other data and lets synonyms through."""

    pool: Pool = "concept"
    """One direction per concept, the mean over its names, or one per name."""

    def settled(self, model: Model, request: Request) -> Self:
        """Return the method with its strength fixed."""
        if self.strength is not None:
            return self
        moved = concept_rows(model, request, self.pool)
        held, weights = held_rows(model, request, moved, self.retain_weight, self.background_weight)
        neutral = neutral_direction(model, request, self.destination)
        strength = overshoot(model, request, held, weights, neutral, self.forget_weight)
        return type(self)(**{**self.model_dump(), "strength": strength})

    def forget(self, model: Model, request: Request) -> Patch:
        """Return one linear output map for each edited tower.

        Raises:
            UnsupportedError: if the model does not tell what is to be forgotten apart from what is to be retained.
        """
        strength = self.settled(model, request).strength or 1.0
        moved = concept_rows(model, request, self.pool)
        held, weights = held_rows(model, request, moved, self.retain_weight, self.background_weight)
        check_apart(moved, held[: len(request.retain)], request.retain)
        neutral = neutral_direction(model, request, self.destination)
        own = moved - (moved @ neutral).unsqueeze(1) * neutral
        edit = ridge_edit(moved, moved - strength * own, held, forget_weight=self.forget_weight, retain_weight=weights)
        outputs: dict[TowerName, AffineMap] = {}
        if self.side != "text":
            outputs["image"] = edit.on_scores()
        if self.side != "image":
            outputs["text"] = edit.on_vectors()
        return Patch(outputs=outputs)
