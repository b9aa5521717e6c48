"""B3: ask by many names in many sentences, one at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import share, worst
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Concept, Request, key
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
"""What a name is put into to make further names of it."""


@final
class Wordings(Audit):
    """Accuracy on images of the forgotten when it is asked for by another name, in one sentence at a time.

    Names: those of the request, its synonyms, plurals and misspellings, names from a thesaurus, kinds of it, and the
    name in longer expressions; no other class's name. Sentences: a template set, each alone, the same for all classes.
    The worst of all names in all sentences is an attacker's maximum: its interval holds for all of them at once.
    """

    code: ClassVar = "B3"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    also: tuple[str, ...] = ()
    """Further names to try, for instance in other languages."""

    sentences: str = "varied"
    """Template set, file or sentence, as `--templates` takes it."""

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
            rows = {one: _rows(model, one, images.classes) for one in templates(self.sentences)}
            for concept in request.forget:
                index = images.class_index(concept.name)
                hits = _hits(model, known, rows, index, tuple(self._names(concept, images.classes)))
                readings += _readings(subject, hits)
        return tuple(readings)

    def _names(self, concept: Concept, classes: Sequence[str]) -> Iterator[str]:
        given = (*concept.names, *self.also, *thesaurus.synonyms(concept.name))
        offered = (
            *given,
            *(plural(name) for name in given),
            *misspellings(concept.name),
            *kinds.narrower(concept.name),
            *(form.replace("{}", concept.name) for form in FORMS),
        )
        taken = {key(name) for name in classes} - {key(concept.name)}
        by_spelling = {key(name): name for name in reversed(offered)}
        yield from (by_spelling[one] for one in dict.fromkeys(map(key, offered)) if one not in taken)


def _rows(model: Model, sentence: str, names: Sequence[str]) -> Tensor:
    return unit(model.texts([sentence.replace("{}", name) for name in names]).float()).cpu()


def _hits(
    model: Model, known: Answers, rows: Mapping[str, Tensor], index: int, names: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Return, for each name and sentence, which images of the class are named right when it is asked for by them."""
    own = known.labels == index
    found: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for sentence, texts in rows.items():
        for name, text in zip(names, _rows(model, sentence, names), strict=True):
            found[name][sentence] = known.asked(texts).renamed(index, text).ranks[own] == 1
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
