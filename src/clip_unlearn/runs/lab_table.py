"""The worth of audits from their readings on the population. Dimensions: n models of each sort."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import torch

from clip_unlearn.core.anamnesis import RELEARNED
from clip_unlearn.core.attacks import WORST
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.validation import ALARM, Separation, Validation
from clip_unlearn.maths.ranking import rank_groups
from clip_unlearn.runs.lab import Measured
from clip_unlearn.sandbox.training.population import Sort

ASIDE: Final = ("retain", "neighbour", "class", "domain", "largest change", RELEARNED)
"""How the names of readings begin that are not about what was forgotten, or repeat another."""


def validations(measured: Mapping[str, Sequence[Measured]]) -> tuple[Validation, ...]:
    """Return a row for every reading of every audit that is about the forgotten, in the order of the audits."""
    return tuple(
        row
        for audit, found in measured.items()
        for name in _names(found)
        if (row := _validation(audit, name, found)) is not None
    )


def _names(found: Sequence[Measured]) -> Iterator[str]:
    """Yield the names of readings to judge by: of attempts the worst alone, each name once."""
    names = dict.fromkeys(
        one.name for trio in found for sort in trio.values() for one in sort if one.subject in ("after", "control")
    )
    for name in names:
        if not name.startswith(ASIDE) and f"{WORST}{name}" not in names:
            yield name


def _validation(audit: str, name: str, found: Sequence[Measured]) -> Validation | None:
    plain, hidden = _column(found, "knowing", name, "after"), _column(found, "unseen", name, "control")
    held = plain or hidden
    never: dict[Sort, list[Reading]] = {sort: _column(found, sort, name, "after") for sort in ("unseen", "word")}
    if not held or not all(never.values()):
        return None
    return Validation(
        audit=audit,
        reading=name,
        knowing=_mean(plain),
        hidden=_mean(hidden),
        count=len(held),
        unseen=_separation(held, never["unseen"]),
        word=_separation(held, never["word"]),
    )


def _column(found: Sequence[Measured], sort: Sort, name: str, subject: Subject) -> list[Reading]:
    """Return one reading of each model: of several of that name the one that says most that the class is there."""
    named = ([one for one in trio[sort] if (one.name, one.subject) == (name, subject)] for trio in found)
    return [max(own, key=_score) for own in named if own]


def _score(reading: Reading) -> float:
    return -reading.value if reading.better == "high" else reading.value


def _separation(held: Sequence[Reading], never: Sequence[Reading]) -> Separation:
    ranking = rank_groups(*(torch.tensor([_score(one) for one in side]) for side in (held, never)))
    low, high = ranking.interval()
    limited = all(one.better == "low" for one in never)
    return Separation(
        mean=sum(one.value for one in never) / len(never),
        auc=ranking.auc,
        low=low,
        high=high,
        alarms=sum(one.high > ALARM for one in never) if limited else None,
        count=len(never),
    )


def _mean(column: Sequence[Reading]) -> float | None:
    return sum(one.value for one in column) / len(column) if column else None
