"""What is moved and what is held on each side, pictures and names. n pictures or sentences, d embedding width."""

from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.maths.vectors import unit

BATCH: Final = 32
"""Pictures that are embedded at a time where no gradient is taken."""


class Side(Protocol):
    """One tower, what of it is to go somewhere and what is to stay."""

    @property
    def tower(self) -> TowerName:
        """Return the tower."""

    def moved(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return how far what is moved is from its place, a mean distance of unit embeddings."""

    def held(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return how far what is held is from its place, a mean squared distance of unit embeddings; 0 for nothing."""

    def sample(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return unit embeddings of some of what is held, or of what is moved where nothing is: [n, d]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """The image side: normalised pictures to move, each to the places of its perturbed copies, and others to hold."""

    moving: Tensor
    """[n, 3, height, width]."""

    places: Tensor
    """Unit embeddings of the perturbed copies: [draws, n, d]."""

    weights: Tensor
    """Of each copy, the inverse of its distance in pixels, 1 in the mean: [draws, n]."""

    holding: Tensor
    """[m, 3, height, width]."""

    stays: Tensor
    """Unit embeddings of what is held, as they were: [m, d]."""

    batch: int
    """Pictures of each kind that a step looks at."""

    tower: TowerName = "image"

    def moved(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return 1/2 mean_s,i w_si ||v(x_i) - v_0(x_si)||: the Lipschitz ratio of unit embeddings, up to a factor."""
        some = torch.randperm(len(self.moving), generator=generator)[: self.batch]
        away = unit(draft.images(self.moving[some])) - self.places[:, some]
        distance: Tensor = 0.5 * (self.weights[:, some] * away.norm(dim=2)).mean()
        return distance

    def held(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return mean_i ||v(x_i) - v_0(x_i)||^2."""
        some = torch.randperm(len(self.holding), generator=generator)[: self.batch]
        if not len(some):
            return self.places.new_zeros(())
        return (unit(draft.images(self.holding[some])) - self.stays[some]).square().sum(1).mean()

    def sample(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return unit embeddings of some pictures that are held, or else moved."""
        pixels = self.holding if len(self.holding) else self.moving
        return unit(draft.images(pixels[torch.randperm(len(pixels), generator=generator)[: self.batch]]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Names:
    """The text side: sentences to move, each to its place, and others to hold."""

    moving: tuple[str, ...]
    places: Tensor
    """Unit rows [n, d]."""

    holding: tuple[str, ...]
    """Nearest to what is moved first."""

    stays: Tensor
    """Unit embeddings of what is held, as they were: [m, d]."""

    near: int
    """So many of the nearest are held in every step."""

    batch: int
    """And so many of the others."""

    tower: TowerName = "text"

    def moved(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return 1/2 mean_j ||t(s_j) - q_j||."""
        distance: Tensor = 0.5 * (unit(draft.texts(self.moving)) - self.places).norm(dim=1).mean()
        return distance

    def held(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return mean_j ||t(s_j) - t_0(s_j)||^2."""
        if not self.holding:
            return self.places.new_zeros(())
        some = self._some(generator)
        rows = unit(draft.texts([self.holding[place] for place in some]))
        return (rows - self.stays[some]).square().sum(1).mean()

    def sample(self, draft: Model, generator: torch.Generator) -> Tensor:
        """Return unit embeddings of some sentences that are held, or else moved."""
        sentences = [self.holding[place] for place in self._some(generator)] if self.holding else self.moving
        return unit(draft.texts(sentences))

    def _some(self, generator: torch.Generator) -> list[int]:
        near = min(self.near, len(self.holding))
        drawn = torch.randperm(len(self.holding) - near, generator=generator)[: self.batch]
        return [*range(near), *(near + drawn).tolist()]


def embedded(model: Model, pixels: Tensor) -> Tensor:
    """Return the unit embeddings of normalised pictures, without gradients. [n, 3, h, w] -> [n, d]."""
    with torch.no_grad():
        return unit(torch.cat([model.images(part) for part in torch.split(pixels, BATCH)]))
