"""Remove the concept's text directions from the image side of the shared space. d embedding width, n sentences."""

from typing import ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import remove_directions
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import name_rows


@final
class Project(Method):
    """Project image embeddings off the span of the concept's names, centred on the names to retain.

    z -> z (I - strength U U^T), U an orthonormal basis of the unit name embeddings minus the mean of the retained
    ones. Needs texts only. Closed form, seconds. An edit of the last layer: it suppresses outputs, it removes nothing
    from the features below.
    """

    needs: ClassVar = frozenset({"texts"})
    paper: ClassVar = "arXiv 2512.14137 and 2512.14113 (nullspace and partial projection); the centring is ours"
    ceiling: ClassVar = "F2"
    tunable: ClassVar = {"strength": (0.01, 1.0)}

    strength: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the component along the concept's directions to remove."""

    centre: Literal["retain", "none"] = "retain"
    """What to subtract from the name embeddings first: the mean of the retained names, or nothing. Uncentred
    directions hold what all texts share, so removing them costs every class a little and forgets less."""

    pool: Literal["mean", "each"] = "mean"
    """One direction per name, averaged over the templates, or one per name and template."""

    @torch.no_grad()
    def forget(self, model: Model, request: Request) -> Patch:
        """Return one linear output map for the image tower.

        Raises:
            UnsupportedError: if a name's embedding equals the centre, so that it has no direction of its own.
        """
        directions = self._named(model, request, [name for concept in request.forget for name in concept.names])
        others = request.retain or request.background
        if self.centre == "retain" and others:
            directions = directions - name_rows(model, request, others).mean(0)
        removal = remove_directions(directions, strength=self.strength)
        if removal.rank == 0:
            raise UnsupportedError("The names to forget have no direction of their own in this model. Use other names.")
        return Patch(outputs={"image": removal})

    def _named(self, model: Model, request: Request, names: list[str]) -> Tensor:
        if self.pool == "mean":
            return name_rows(model, request, names)
        return unit(model.texts(request.sentences(names)).double())
