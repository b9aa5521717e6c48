"""What an edit is judged by while it is made: pictures that nothing is trained on. n pictures, d embedding width."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._sides import embedded


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """What an examination found."""

    margins: Tensor
    """For every held-out picture and name of its concept: cosine with the name less that with the best class that
    stays. Positive where the picture is still recognised."""

    kept: Tensor
    """Whether each held-out picture of a class that stays is recognised."""

    @property
    def known(self) -> Tensor:
        """Return whether each is still recognised; what is no number counts so: a broken model has not forgotten."""
        return ~(self.margins <= 0)

    @property
    def accuracy(self) -> float:
        """Return the share of pairs of picture and name that are still recognised."""
        return float(self.known.double().mean())

    @property
    def kept_share(self) -> float:
        """Return the share of pictures of classes that stay that are recognised; 1 without any."""
        return float(self.kept.double().mean()) if len(self.kept) else 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """Pictures and sentences that nothing is trained on: what is recognised, by what names, and what is kept."""

    model: Model
    pictures: Tensor
    """Of what is to be forgotten, normalised: [n, 3, height, width]."""

    owners: Tensor
    """The concept of each picture: [n]."""

    names: tuple[tuple[str, ...], ...]
    """For every concept, a sentence for each of its names."""

    rivals: tuple[str, ...]
    """A sentence for every class that stays."""

    kept: Tensor
    """Pictures of classes that stay, normalised: [m, 3, height, width]."""

    shown: Tensor
    """The place of their class in `rivals`: [m]."""

    @torch.no_grad()
    def __call__(self, draft: Model) -> Marks:
        """Return the marks of a model."""
        rivals, images = unit(draft.texts(self.rivals)), embedded(draft, self.pictures)
        best = (images @ rivals.T).amax(1)
        margins = []
        for place, sentences in enumerate(self.names):
            own = self.owners == place
            margins.append((images[own] @ unit(draft.texts(sentences)).T - best[own].unsqueeze(1)).flatten())
        kept = self.shown.bool()
        if len(self.kept):
            kept = (embedded(draft, self.kept) @ rivals.T).argmax(1).cpu() == self.shown
        return Marks(margins=torch.cat(margins).cpu(), kept=kept)

    @cached_property
    def before(self) -> Marks:
        """Return the marks of the model as it was."""
        return self(self.model)
