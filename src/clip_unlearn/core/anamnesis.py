"""How soon the forgotten is learned again, beside a model that never saw it. Torch-free."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clip_unlearn.core.record import Reading, Skipped, Subject
from clip_unlearn.core.recovery import DRAWS, Outcome
from clip_unlearn.maths.intervals import student

INDEX: Final = "anamnesis index"
"""What the readings are called; what they are about is the name of the attack."""

STEPS: Final = "relearning steps"
"""How the names of readings end, before a comma, that count steps of learning again."""

RELEARNED: Final = "relearned in time, "
"""What the name of the share of draws begins with in which the steps were enough."""

FAR: Final = 50.0
"""Largest distance of a drawn logarithm from that of the mean."""

ROUNDING: Final = 12**-0.5
"""Least deviation of a number of steps: that of rounding to a whole one."""


def anamnesis_indices(readings: Sequence[Reading]) -> Outcome:
    """Return the anamnesis index of every attack that counts steps of a reference, and those without, with why.

    AIN = steps(edited) / steps(reference), with the mean over draws of images and over references: 1 as if never seen,
    far below 1 where much is left that makes learning again easy, above 1 where the edited model learns the class worse
    than one that never saw it. The interval is that of 20,000 draws of both means, of each from Student's distribution
    with its own deviation over the draws of images, that of whole numbers at least; that of the reference on the scale
    of logarithms, because it is divided by, and the reference being one of those given in each draw, which puts the
    spread over references into it.

    There is none where a model does not learn the class in every draw, because its steps are then not known, where a
    reference needs no steps, or where only one draw was made.

    Source: Anamnesis Index, arXiv 2201.05629.
    """
    found: list[Reading] = []
    without: list[Skipped] = []
    for name in dict.fromkeys(one.name for one in readings if one.subject == "reference"):
        edited = max(_named(readings, name, "after"), key=lambda one: one.value, default=None)
        if not name.partition(",")[0].endswith(STEPS) or name.startswith(RELEARNED) or edited is None:
            continue
        references = _named(readings, name, "reference")
        if why := _undefined(readings, edited, references):
            without.append(Skipped(probe=f"{INDEX}, {name}", reason=why))
        else:
            found.append(_index(edited, references))
    return tuple(found), tuple(without)


def _named(readings: Sequence[Reading], name: str, subject: Subject) -> list[Reading]:
    return [one for one in readings if (one.name, one.subject) == (name, subject)]


def _undefined(readings: Sequence[Reading], edited: Reading, references: Sequence[Reading]) -> str:
    """Return why there is no index, "" where there is one."""
    reached, ratio = f"{RELEARNED}{edited.name}", edited.value / max(_mean(references), ROUNDING)
    late, later = (any(one.value < 1 for one in _named(readings, reached, who)) for who in ("after", "reference"))
    if late and later:
        return "neither the edited model nor a reference learned it again in every draw"
    if late:
        return f"the edited model did not learn it again in every draw; the index is above {ratio:.2f}"
    if later:
        return f"a reference did not learn it again in every draw; the index is below {ratio:.2f}"
    if min(one.value for one in references) == 0:
        return "a reference needs no steps"
    if min(one.count for one in (edited, *references)) < 2:
        return "one draw of images has no interval; give more draws"
    return ""


def _index(edited: Reading, references: Sequence[Reading]) -> Reading:
    random = np.random.default_rng(0)
    left = edited.value + _error(edited) * _student(edited, random)
    every = np.stack([_above_zero(one, random) for one in references])
    never = every[random.integers(len(references), size=DRAWS), np.arange(DRAWS)]
    value = edited.value / _mean(references)
    low, high = (float(end) for end in np.quantile(np.clip(left, 0, None) / never, (0.025, 0.975)))
    return Reading(
        name=INDEX,
        value=value,
        low=min(low, value),
        high=max(high, value),
        count=edited.count,
        better="neither",
        of=edited.name,
        interval=f"Student draws over {edited.count} draws of images and {len(references)} references",
    )


def _mean(references: Sequence[Reading]) -> float:
    return sum(one.value for one in references) / len(references)


def _above_zero(reading: Reading, random: np.random.Generator) -> NDArray[np.float64]:
    """Return draws of a mean by its logarithm, no further than numbers reach."""
    return reading.value * np.exp(np.clip(_error(reading) / reading.value * _student(reading, random), -FAR, FAR))


def _error(reading: Reading) -> float:
    """Return the standard error of a mean with Student's interval, that of whole numbers at least."""
    half = (reading.high - reading.low) / 2
    return max(half / student(reading.count), ROUNDING / math.sqrt(reading.count))


def _student(reading: Reading, random: np.random.Generator) -> NDArray[np.float64]:
    return random.standard_t(reading.count - 1, DRAWS)
