"""B3: ask by many names in many sentences, one at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import share, worst
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import Answers, answers, measured_images
from clip_unlearn.maths.vectors import unit
from clip_unlearn.prompts import kinds, thesaurus
from clip_unlearn.prompts.expand import templates
from clip_unlearn.prompts.wordings import misspellings, plural

FORMS: Final = (
    "small {}",
    "large {}",
    "old {}",
    "new {}",
    "red {}",
    "broken {}",
    "toy {}",
    "single {}",
    "{} seen from above",
    "{} in the background",
    "{} in the dark",
    "{} and nothing else",
    "part of a {}",
    "kind of {}",
    "thing called {}",
)
"""What a name is put into to make further names of it; all classes are put into the same."""

LONGER: Final = 1.5
"""How much longer than a name in a template most of these sentences are."""

PLAIN: Final = "{}"
PLURAL: Final = "{}, plural"


@final
class Wordings(Audit):
    """Accuracy on images of the forgotten when it is asked for by another name, in one sentence at a time.

    Names: those of the request, its synonyms and misspellings, names from a thesaurus, kinds of it; their plurals, and
    the name in longer expressions, against all other classes in the same form, so that no class stands out by the form
    alone. No other class's name. Sentences: a template set, each alone, the same for all classes. The worst of all
    names in all sentences is an attacker's maximum: its interval holds for all of them at once.
    """

    code: ClassVar = "B3"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    also: tuple[str, ...] = ()
    """Further names to try, for instance in other languages."""

    sentences: str = "varied"
    """Template set, file or sentence, as `--templates` takes it."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: all classes in every form and sentence, by each text tower that differs."""
        plain = size.text_towers * size.classes * len(templates(self.sentences))
        return Work(varied=plain, sentences=LONGER * (1 + len(FORMS)) * plain)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy by each name in the sentence that suits it best, and the worst of all, of both models.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        images = measured_images(self.data, self.split, request)
        sides: tuple[tuple[Subject, Model], ...] = (("before", before), ("after", after))
        readings: list[Reading] = []
        for subject, model in sides:
            known = answers(model, images, request)
            for concept in request.forget:
                asked = _Asked(
                    classes=images.classes,
                    index=images.class_index(concept.name),
                    names=self._names(concept, images.classes),
                )
                hits = _hits(model, known, asked, templates(self.sentences))
                readings += _readings(subject, hits)
        return tuple(readings)

    def _names(self, concept: Concept, classes: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the names to put into each form."""
        given = (*concept.names, *self.also, *thesaurus.synonyms(concept.name))
        plain = (*given, *misspellings(concept.name), *kinds.narrower(concept.name))
        taken = {key(name) for name in classes} - {key(concept.name)}
        wanted: dict[str, list[str]] = {}
        for form, names in ((PLAIN, plain), (PLURAL, given), *((form, (concept.name,)) for form in FORMS)):
            for name in names:
                if (spelling := key(_formed(form, name))) not in taken:
                    taken.add(spelling)
                    wanted.setdefault(form, []).append(name)
        return wanted


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What one class is asked for by, among all."""

    classes: Sequence[str]
    index: int
    names: Mapping[str, Sequence[str]]
    """The names to put into each form."""


def _formed(form: str, name: str) -> str:
    return plural(name) if form == PLURAL else form.replace("{}", name)


def _rows(model: Model, sentences: Sequence[str], form: str, names: Sequence[str]) -> Tensor:
    """Return the unit rows of names in a form, in every sentence: [sentences, names, d]."""
    texts = [sentence.replace("{}", _formed(form, name)) for sentence in sentences for name in names]
    return unit(model.texts(texts).float()).cpu().view(len(sentences), len(names), -1)


def _hits(model: Model, known: Answers, asked: _Asked, sentences: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Return, for each name and sentence, which images of the class are named right when it is asked for by them."""
    own = known.labels == asked.index
    mine = replace(known, embeddings=known.embeddings[own], labels=known.labels[own])
    found: dict[str, dict[str, Tensor]] = {}
    for form, names in asked.names.items():
        others, rows = (_rows(model, sentences, form, each) for each in (asked.classes, names))
        for place, name in enumerate(names):
            found[_formed(form, name)] = {
                sentence: mine.asked(others[at]).renamed(asked.index, rows[at, place]).ranks == 1
                for at, sentence in enumerate(sentences)
            }
    return found


def _readings(subject: Subject, hits: Mapping[str, Mapping[str, Tensor]]) -> Iterator[Reading]:
    for name, by_sentence in hits.items():
        best = max(by_sentence.values(), key=lambda right: int(right.sum()))
        yield share("wording accuracy", best, "low", subject=subject, of=name)
    tried = {
        sentence.replace("{}", name): right
        for name, by_sentence in hits.items()
        for sentence, right in by_sentence.items()
    }
    yield worst("worst wording accuracy", tried, subject=subject, what="names in sentences")
