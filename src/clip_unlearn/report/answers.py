"""Sample pictures with what both models said about them."""

from dataclasses import dataclass
from typing import final

from clip_unlearn.core.record import Record, Sample
from clip_unlearn.core.request import key


@final
@dataclass(frozen=True, kw_only=True)
class Answer:
    """One sample, and which of its answers are right."""

    sample: Sample
    before_right: bool
    after_right: bool
    forgotten: bool
    """Whether the picture shows something that was to be forgotten."""


def answers(record: Record, *, limit: int) -> tuple[Answer, ...]:
    """Return the first `limit` samples, those of forgotten classes first."""
    forgotten = forgotten_keys(record)
    found = [
        Answer(
            sample=sample,
            before_right=key(sample.before) == key(sample.truth),
            after_right=key(sample.after) == key(sample.truth),
            forgotten=key(sample.truth) in forgotten,
        )
        for sample in record.samples
    ]
    return tuple(sorted(found, key=lambda answer: not answer.forgotten)[:limit])


def forgotten_keys(record: Record) -> frozenset[str]:
    """Return every name and synonym to be forgotten, in the form in which two spellings are equal."""
    return frozenset(key(name) for concept in record.origin.request.forget for name in concept.names)
