"""How much of the forgotten is left, on the scale from a model that never saw it to the original. Torch-free."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.record import Reading, Skipped, Subject

RATIO: Final = "recovery ratio"
"""What the readings are called; what they are about is the name of the attack."""

CLOSE: Final = 0.1
"""Least distance of original and reference, by its 95 % interval, on which a ratio says anything."""

DRAWS: Final = 20_000
SHARES: Final = ("accuracy", "precision at 10")
"""How the names of readings end that are shares of the images of the forgotten, or hold it before a comma."""

ASIDE: Final = ("retain", "neighbour", "class", "domain")
"""How those begin that are about others, or repeat another."""

Outcome = tuple[tuple[Reading, ...], tuple[Skipped, ...]]


def recovery_ratios(readings: Sequence[Reading]) -> Outcome:
    """Return the recovery ratio of every attack that has a reading of a reference, and those that have none, with why.

    rho = (m(edited) - m(reference)) / (m(original) - m(reference)): 0 as if never seen, 1 all there, below 0 further
    away than that. m is the share that the attack brings back, in its worst form; of the original the larger of what it
    has without the attack and of what the attack brings back of the control. The interval is that of 20,000 draws of
    the three shares, each from Beta(hits + 1/2, misses + 1/2), the reference being one of those given in each draw. It
    leaves out that the worst of several forms was taken, on all three sides.

    Where original and reference may be less than 10 points apart, the reference is too close and there is no ratio.

    Source: minimal information injection, arXiv 2506.00688; Jeffreys' prior for proportions.
    """
    ratios: list[Reading] = []
    without: list[Skipped] = []
    for name in _names(readings):
        references = [one for one in readings if (one.name, one.subject) == (name, "reference")]
        edited = _largest(readings, name, "after")
        originals = [one for subject in _HELD if (one := _largest(readings, name, subject)) is not None]
        if edited is None or not originals:
            continue
        found = _ratio(name.removeprefix(WORST), max(originals, key=lambda one: one.value), edited, references)
        if isinstance(found, Reading):
            ratios.append(found)
        else:
            without.append(found)
    return tuple(ratios), tuple(without)


_HELD: Final[tuple[Subject, ...]] = ("before", "control")


def _names(readings: Sequence[Reading]) -> Iterator[str]:
    """Yield the names that a reference has a reading of: of attempts the worst alone, each name once."""
    names = dict.fromkeys(one.name for one in readings if one.subject == "reference")
    for name in names:
        if name.partition(",")[0].endswith(SHARES) and not name.startswith(ASIDE) and f"{WORST}{name}" not in names:
            yield name


def _largest(readings: Sequence[Reading], name: str, subject: Subject) -> Reading | None:
    found = [one for one in readings if (one.name, one.subject) == (name, subject)]
    return max(found, key=lambda one: one.value, default=None)


def _ratio(name: str, original: Reading, edited: Reading, references: Sequence[Reading]) -> Reading | Skipped:
    random = np.random.default_rng(0)
    held, left = (_draws(one, random) for one in (original, edited))
    every = np.stack([_draws(one, random) for one in references])
    never = every[random.integers(len(references), size=DRAWS), np.arange(DRAWS)]
    mean = sum(one.value for one in references) / len(references)
    if float(np.quantile(held - never, 0.025)) < CLOSE:
        why = f"reference too close: {mean:.1%} of it, {original.value:.1%} of the original, {edited.value:.1%} edited"
        return Skipped(probe=f"{RATIO}, {name}", reason=why)
    value = (edited.value - mean) / (original.value - mean)
    low, high = (float(end) for end in np.quantile((left - never) / (held - never), (0.025, 0.975)))
    return Reading(
        name=RATIO,
        value=value,
        low=min(low, value),
        high=max(high, value),
        count=edited.count,
        better="low",
        of=name,
        interval=f"Jeffreys draws over images and {len(references)} references",
    )


def _draws(reading: Reading, random: np.random.Generator) -> NDArray[np.float64]:
    hits = reading.value * reading.count
    return random.beta(hits + 0.5, reading.count - hits + 0.5, DRAWS)
