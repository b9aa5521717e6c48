"""Ask for a forgotten class by other words: synonyms, plural, misspellings, group words."""

from typing import ClassVar, Literal, final

from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import shares, worst
from clip_unlearn.core.record import Reading, Subject
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.data.answers import Answers, answers, class_texts, measured_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.prompts.wordings import misspellings, plural
from clip_unlearn.sandbox import classes as world

GROUP = "group word"


@final
class NameSweep(Probe):
    """Accuracy on the forgotten class's images when its name in the class list is replaced by another wording.

    The worst wording is an attacker's maximum: its interval is Clopper-Pearson at 0.05 / M, which holds for all M
    wordings at once. Group words ("vessel") are listed but are no part of the worst case: a model that never learnt
    the class may rightly answer with its group.
    """

    needs_images: ClassVar = True

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    also: tuple[str, ...] = ()
    """Further wordings to try, for instance names in other languages."""

    groups: tuple[str, ...] = ()
    """Group words of the class, such as "vessel" for "mug"."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy by each wording and by the worst one, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        images = measured_images(self.data, self.split, request)
        first, second = answers(before, images, request), answers(after, images, request)
        readings: list[Reading] = []
        for concept in request.forget:
            wordings = self._wordings(concept, images)
            index = images.class_index(concept.name)
            was = _hits(before, first, request, index, [*wordings])
            now = _hits(after, second, request, index, [*wordings])
            labels = [f"{wording} ({kind})" for wording, kind in wordings.items()]
            for place, label in enumerate(labels):
                readings.extend(shares("name accuracy", was[place], now[place], "low", of=label))
            named = [place for place, kind in enumerate(wordings.values()) if kind != GROUP]
            sides: tuple[tuple[Subject, list[Tensor]], ...] = (("before", was), ("after", now))
            for subject, hits in sides:
                tried = {labels[place]: hits[place] for place in named}
                readings.append(worst("worst name accuracy", tried, subject=subject, what="wordings"))
        return tuple(readings)

    def _wordings(self, concept: Concept, images: ImageSet) -> dict[str, str]:
        """Return each wording with its kind; another class's name is no wording of this one."""
        synonyms, groups = _world_words(self.data, concept.name)
        offered = [
            (concept.name, "name"),
            *((name, "synonym") for name in (*concept.synonyms, *synonyms, *self.also)),
            *((plural(name), "plural") for name in (concept.name, *concept.synonyms)),
            *((name, "misspelling") for name in misspellings(concept.name)),
            *((name, GROUP) for name in (*self.groups, *groups)),
        ]
        taken = {key(name) for name in images.classes if key(name) != key(concept.name)}
        wordings: dict[str, str] = {}
        for wording, kind in offered:
            if key(wording) not in taken and wording not in wordings:
                wordings[wording] = kind
        return wordings


def _world_words(where: str, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the synonyms and group words that the embedded world knows for a class of its own."""
    if where.partition(":")[0] != "sandbox":
        return (), ()
    return next(((one.synonyms, (one.group,)) for one in world.CLASSES if key(one.name) == key(name)), ((), ()))


def _hits(model: Model, known: Answers, request: Request, index: int, wordings: list[str]) -> list[Tensor]:
    texts = class_texts(model, request, wordings).cpu()
    own = known.labels == index
    return [known.renamed(index, text).ranks[own] == 1 for text in texts]
