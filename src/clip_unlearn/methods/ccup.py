"""Ridge projection with retention: the published closed form. d embedding width, m names to forget."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.methods._rows import Pool, check_apart, concept_rows, held_rows


@final
class Ccup(Method):
    """Send the names to forget to zero on the image side while names to retain stay where they are.

    argmin_W ||W - I||^2 + forget_weight ||W T_f||^2 + retain_weight ||W T_r - T_r||^2, columns of T unit name
    embeddings: W = A (A + forget_weight T_f T_f^T)^-1 with A = I + retain_weight T_r T_r^T. Needs texts only. An edit
    of the last layer: it suppresses outputs, it removes nothing from the features below.
    """

    needs: ClassVar = frozenset({"texts"})
    paper: ClassVar = "arXiv 2512.14137; weights, prompts and convention are not published, the defaults are ours"
    ceiling: ClassVar = "F2"
    tunable: ClassVar = {
        "strength": (0.01, 1.0),
        "forget_weight": (1e-2, 1e6),
        "retain_weight": (1e6, 1e-2),
        "background_weight": (1e6, 1e-2),
    }

    strength: float = Field(default=1.0, gt=0, le=1)
    """Share of the edit that is applied: W_s = I + strength (W - I)."""

    forget_weight: float = Field(default=1e6, gt=0)
    """Weight of sending the names to forget to zero (lambda); infinity sends them there exactly."""

    retain_weight: float = Field(default=1000.0, ge=0)
    """Weight of holding each name to retain (mu); 0 with forget_weight infinity is the orthogonal projection."""

    background_weight: float = Field(default=3.0, ge=0)
    """Weight of holding each name of the background."""

    convention: Literal["R", "C"] = "R"
    """R: image rows z -> z W, so that the score with a name t becomes z . (W t). C: z -> z W^T, so that the image
    embedding itself loses its part along the names. They differ as soon as names are retained."""

    side: Literal["image", "text"] = "image"
    """The tower to edit. The text side is refused: W t is parallel to t for one class, so nothing is forgotten."""

    pool: Pool = "name"
    """One direction per name, or one per concept, the mean over its names."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return one linear output map for the image tower.

        Raises:
            UnsupportedError: for the text side; if a name to forget lies in the span of what is retained.
        """
        if self.side == "text":
            raise UnsupportedError(
                "Ccup cannot forget on the text side: W t_f stays parallel to t_f, and normalisation brings it back. "
                "Use side=image, or the method redirect with side=text."
            )
        moved = concept_rows(model, request, self.pool)
        held, held_weights = held_rows(model, request, moved, self.retain_weight, self.background_weight)
        check_apart(moved, held[: len(request.retain)], request.retain)
        edit = ridge_edit(
            moved, torch.zeros_like(moved), held, forget_weight=self.forget_weight, retain_weight=held_weights
        )
        output = edit.on_scores() if self.convention == "R" else edit.on_vectors()
        return Patch(outputs={"image": output.scaled(self.strength)})
