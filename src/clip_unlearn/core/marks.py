"""What a look at images that are not learned from found. n images."""

from dataclasses import dataclass
from typing import final

import torch

from clip_unlearn.core.readings import share
from clip_unlearn.core.record import Reading, Subject


@final
@dataclass(frozen=True, kw_only=True)
class Mark:
    """How many images of what is to be forgotten and of what is to be retained are recognised."""

    forget_hits: int
    forget_count: int
    retain_hits: int
    retain_count: int
    forget_probability: float
    """Mean probability that images to be forgotten are given to their own class; decides between equal accuracies."""

    @property
    def forget_accuracy(self) -> float:
        """Return the share of images to be forgotten that are recognised."""
        return self.forget_hits / self.forget_count

    @property
    def retain_accuracy(self) -> float:
        """Return the share of images to be retained that are recognised; 1 without any."""
        return self.retain_hits / self.retain_count if self.retain_count else 1.0

    @property
    def balance(self) -> float:
        """Return the harmonic mean of what is forgotten and what is retained.

        H = 2 (1 - A_f) A_r / ((1 - A_f) + A_r), 0 where either is 0. In [0, 1].
        """
        gone, kept = 1 - self.forget_accuracy, self.retain_accuracy
        return 2 * gone * kept / (gone + kept) if gone and kept else 0.0

    @property
    def order(self) -> tuple[float, float]:
        """Return what a better mark has more of: the balance, then the certainty of having forgotten."""
        return (self.balance, -self.forget_probability)

    def readings(self, subject: Subject) -> tuple[Reading, ...]:
        """Return both shares with their intervals. They chose the state, so they are no result."""
        found = [share("stop-set forget accuracy", _hits(self.forget_hits, self.forget_count), "low", subject=subject)]
        if self.retain_count:
            hits = _hits(self.retain_hits, self.retain_count)
            found.append(share("stop-set retain accuracy", hits, "high", subject=subject))
        return tuple(found)


def _hits(hits: int, count: int) -> torch.Tensor:
    return torch.arange(count) < hits
