"""Readings from counted outcomes of the same items before and after an edit."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from clip_unlearn.core.record import Better, Reading, Subject
from clip_unlearn.maths import intervals


def share(name: str, hits: Tensor, better: Better, *, subject: str = "after", of: str = "") -> Reading:
    """Return the share of hits [n] with its Wilson interval."""
    count, successes = len(hits), int(hits.sum())
    low, high = intervals.wilson(successes, count)
    fields = {"subject": subject, "of": of, "interval": "Wilson"}
    return Reading(name=name, value=successes / count, low=low, high=high, count=count, better=better, **fields)


def worst(name: str, hits: Mapping[str, Tensor], *, subject: Subject, what: str) -> Reading:
    """Return the largest share of hits [n] over several attempts, by their label; `what` they are called.

    It is an attacker's maximum: its interval is Clopper-Pearson at 0.05 / M, which holds for all M attempts at once.
    """
    label = max(hits, key=lambda one: int(hits[one].sum()))
    successes, count = int(hits[label].sum()), len(hits[label])
    low, high = intervals.clopper_pearson(successes, count, tests=len(hits))
    return Reading(
        name=name,
        value=successes / count,
        low=low,
        high=high,
        count=count,
        better="low",
        subject=subject,
        of=label,
        interval=f"Clopper-Pearson, simultaneous over {len(hits)} {what}",
        attempts=len(hits),
    )


def change(name: str, before: Tensor, after: Tensor, better: Better, *, of: str = "") -> Reading:
    """Return the paired change of a share, after minus before, with its interval and McNemar's exact p-value."""
    gained, lost, count = int((after & ~before).sum()), int((before & ~after).sum()), len(before)
    low, high = intervals.paired_difference(gained, lost, count)
    return Reading(
        name=name,
        value=(gained - lost) / count,
        low=low,
        high=high,
        count=count,
        better=better,
        subject="change",
        of=of,
        interval="Bonett-Price, paired",
        p_value=intervals.mcnemar(gained, lost),
    )


def shares(name: str, before: Tensor, after: Tensor, better: Better, *, of: str = "") -> tuple[Reading, ...]:
    """Return the share before, the share after, and the paired change."""
    return (
        share(name, before, better, subject="before", of=of),
        share(name, after, better, of=of),
        change(name, before, after, better, of=of),
    )


def difference(name: str, first: Sequence[Reading], second: Sequence[Reading]) -> Reading:
    """Return how far one share is above another of separate items, with Newcombe's interval; neither is the wished.

    Each side is one share or several of separate groups, which are pooled by their counts. The count of the difference
    is that of the smaller side.
    """
    (hits, count), (other_hits, other_count) = _pooled(first), _pooled(second)
    low, high = intervals.independent_difference((hits, count), (other_hits, other_count))
    return Reading(
        name=name,
        value=hits / count - other_hits / other_count,
        low=low,
        high=high,
        count=min(count, other_count),
        better="neither",
        subject="change",
        interval="Newcombe, separate items",
    )


def _pooled(shares: Sequence[Reading]) -> tuple[int, int]:
    """Return how many items of how many are hits."""
    return sum(round(one.value * one.count) for one in shares), sum(one.count for one in shares)


def mean(name: str, values: Tensor, better: Better, *, subject: str = "after", of: str = "") -> Reading:
    """Return the mean of values [n] with Student's interval."""
    numbers = values.double().tolist()
    low, high = intervals.mean_interval(numbers)
    value, fields = sum(numbers) / len(numbers), {"subject": subject, "of": of, "interval": "Student"}
    return Reading(name=name, value=value, low=low, high=high, count=len(numbers), better=better, **fields)


def means(name: str, before: Tensor, after: Tensor, better: Better, *, of: str = "") -> tuple[Reading, ...]:
    """Return the mean before, the mean after, and the mean paired change."""
    difference = mean(name, after.double() - before.double(), better, subject="change", of=of)
    return (mean(name, before, better, subject="before", of=of), mean(name, after, better, of=of), difference)


def parts(name: str, before: Tensor, after: Tensor, better: Better) -> tuple[Reading, ...]:
    """Return the mean before, the mean after and the paired change of values in [0, 1], parts of a success: [n], [n].

    With the intervals of shares, which no mean of such values is less sure than: Student's would have no width where
    all items are alike, and ends outside [0, 1].
    """
    count, change = len(before), after.double() - before.double()
    gained, lost = float(change.clamp(min=0).sum()), float(-change.clamp(max=0).sum())
    low, high = intervals.paired_difference(gained, lost, count)
    difference = Reading(
        name=name,
        value=(gained - lost) / count,
        low=low,
        high=high,
        count=count,
        better=better,
        subject="change",
        interval="Bonett-Price, paired, of parts",
    )
    return (_part(name, before, better, "before"), _part(name, after, better, "after"), difference)


def _part(name: str, values: Tensor, better: Better, subject: Subject) -> Reading:
    count, total = len(values), float(values.double().sum())
    low, high = intervals.wilson(total, count)
    return Reading(
        name=name,
        value=total / count,
        low=low,
        high=high,
        count=count,
        better=better,
        subject=subject,
        interval="Wilson, of parts",
    )
