"""Pictures of named classes, made and accepted by one rule. n pictures, k classes, d embedding width, h x w a picture.

Whoever needs pictures of a class without an image of it takes them from here: `lip`, `leace`, `synthesize`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, final

import torch
from torch import Tensor

from clip_unlearn.core import journal
from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import report
from clip_unlearn.core.request import Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.synthesis.ascend import Ascent
from clip_unlearn.synthesis.studio import MADE, Studio

STANDARD: Final = Ascent(steps=60, rate=0.02, check_every=3, probability=0.9, batch=16)
"""Pictures that stop as soon as they are recognised: short of what no photograph looks like, and in less time."""

LEAST_ACCEPTED: Final = 0.5
"""Share of the pictures of each name that has to be accepted."""

EASY_QUANTILE: Final = 0.1
HIGHEST_THRESHOLD: Final = 0.99


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Album:
    """Pictures of named classes, name by name, on the CPU: every one that was tried, with whether it was accepted."""

    names: tuple[str, ...]

    pixels: Tensor
    """In [0, 1], before `model.adapter.pixels.normalise`: [n, 3, h, w]."""

    embeddings: Tensor
    """What the model makes of them, not normalised: [n, d]."""

    labels: Tensor
    """Index of the name of each: [n]."""

    probabilities: Tensor
    """Of the own name among the class list: [n]."""

    accepted: Tensor
    """Whether the own name comes first and has more than `threshold`: [n], bool."""

    steps: Tensor
    """Steps taken by each: [n]."""

    threshold: float
    """Probability that an accepted picture exceeds."""

    most_steps: int
    """Steps that no picture exceeds."""

    def of(self, name: str) -> Tensor:
        """Return the pixels of one name: [count, 3, h, w].

        Raises:
            ValueError: if the album has no such name.
        """
        if name not in self.names:
            raise ValueError(f"the album has no '{name}'")
        return self.pixels[self.labels == self.names.index(name)]

    def accepted_only(self) -> "Album":
        """Return the album without the pictures that were not accepted; names stay, also those without a picture."""
        columns = {column: getattr(self, column)[self.accepted] for column in (*MADE, "labels")}
        return replace(self, **columns)

    def recognised(self, threshold: float) -> "Album":
        """Return the album with every picture accepted that has more than another probability, in 0.5..1.

        Above one half the own name comes first whatever the other classes have. For pictures that stop on the way to
        the probability they climb for.

        Raises:
            ValueError: if the threshold is below 0.5.
        """
        if threshold < 0.5:
            raise ValueError(f"{threshold} does not make a picture's own name come first")
        return replace(self, accepted=self.probabilities > threshold, threshold=threshold)

    def diversity(self) -> tuple[float | None, ...]:
        """Return the mean cosine of the embeddings of two different pictures, for each name; None for fewer than two.

        (|sum of unit rows|^2 - n) / (n (n - 1)), in [-1, 1]: 1 where all pictures are the same to the model.
        """
        found: list[float | None] = []
        for index in range(len(self.names)):
            rows = unit(self.embeddings[self.labels == index].double())
            count = len(rows)
            alike = float(rows.sum(0).square().sum() - rows.square().sum())
            found.append(alike / (count * (count - 1)) if count > 1 else None)
        return tuple(found)

    def checked(self) -> "Album":
        """Return the album if at least half of the pictures of each name were accepted.

        Raises:
            UnsupportedError: naming how many of how many pictures of which name were accepted.
        """
        for index, name in enumerate(self.names):
            accepted = self.accepted[self.labels == index]
            if accepted.sum() < LEAST_ACCEPTED * len(accepted):
                raise UnsupportedError(
                    f"{int(accepted.sum())} of {len(accepted)} synthetic pictures of '{name}' were recognised with a "
                    f"probability above {self.threshold:.3g} within {self.most_steps} steps. "
                    "Allow more steps or a lower probability."
                )
        return self


def make_album(
    model: Model,
    request: Request,
    names: Sequence[str],
    *,
    count: int,
    settings: Ascent,
    seed: int,
    threshold: float | None = None,
) -> Album:
    """Return `count` pictures of each name, of which at least half are accepted; see `attempt_album`.

    Raises:
        UnsupportedError: if fewer are accepted within the steps, naming how many; if the image tower gives no
            gradients; if there is no other class to tell the names from.
        ValueError: if `count` < 1 or a name is not in the class list.
    """
    return attempt_album(
        model, request, names, count=count, settings=settings, seed=seed, threshold=threshold
    ).checked()


def attempt_album(
    model: Model,
    request: Request,
    names: Sequence[str],
    *,
    count: int,
    settings: Ascent,
    seed: int,
    threshold: float | None = None,
) -> Album:
    """Return `count` pictures of each name, however many of them are accepted.

    A picture is accepted when its name comes first in the class list with more than `threshold`, or where that is None
    `settings.probability`. Pictures of a name are drawn towards four prompts in turn, from noise of each grain in turn;
    of a name to forget all wordings take turns too. Every wording and grain meets every prompt.

    Noise is drawn from seed, name and number, shifts from the seed: the pictures of a name depend on model, class list,
    wordings, settings and seed alone, not on the names beside it. Fewer than 5 of each share batches of up to 8
    pictures with other names; for these it holds but for rounding, which an ascent lets grow. One `journal.step` per
    batch.

    Raises:
        UnsupportedError: if the image tower gives no gradients, or there is no other class to tell the names from.
        ValueError: if `count` < 1 or a name is not in the class list.
    """
    if threshold is not None:
        settings = Ascent(**{**settings.model_dump(), "probability": threshold})
    listed = class_list(request)
    unlisted = [name for name in names if name not in listed]
    if count < 1 or unlisted:
        raise ValueError(f"{count} pictures of {', '.join(unlisted) or 'each name'}, which the class list lacks")
    if len(listed) < 2:
        raise UnsupportedError("There is no other class to tell pictures from. Give --retain NAMES.")
    studio = Studio(model=model, request=request, listed=listed, count=count, settings=settings, seed=seed)
    made, done = [], 0
    for shots in studio.batches(names):
        made.append(journal.step(studio.key(shots), partial(studio.pictures, shots)))
        done += len(shots)
        report("synthesise", done, count * len(names))
    return Album(
        names=tuple(names),
        labels=torch.arange(len(names)).repeat_interleave(count),
        **{column: torch.cat([part[column] for part in made]) for column in MADE},
        threshold=settings.probability,
        most_steps=settings.steps,
    )


def class_list(request: Request) -> tuple[str, ...]:
    """Return what pictures are recognised among: the names to forget and those to retain, or else the background.

    In alphabetical order, so that requests about the same classes share the list whatever they ask of each.
    """
    return tuple(sorted((*request.forget_names, *(request.retain or request.background))))


def acceptance_threshold(album: Album) -> float:
    """Return the probability that pictures of another class have to exceed: what an easy class reaches mostly.

    The 10 % quantile, linearly interpolated, of the probabilities of the accepted pictures of the name whose accepted
    pictures have the highest median; at most 0.99. `album` shows names to retain.

    Raises:
        UnsupportedError: if no picture of the album is accepted.
    """
    groups = [
        album.probabilities[album.accepted & (album.labels == index)].double() for index in range(len(album.names))
    ]
    found = [group for group in groups if len(group)]
    if not found:
        raise UnsupportedError(
            f"None of {len(album.labels)} synthetic pictures of names to retain was recognised with a probability "
            f"above {album.threshold:.3g} within {album.most_steps} steps. Allow more steps or a lower probability."
        )
    easiest = max(found, key=lambda group: float(group.quantile(0.5)))
    return min(HIGHEST_THRESHOLD, float(easiest.quantile(EASY_QUANTILE)))
