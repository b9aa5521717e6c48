"""B4: ask with all names and many sentences at once."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import shares
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import answers, measured_images
from clip_unlearn.maths.vectors import unit
from clip_unlearn.prompts import thesaurus
from clip_unlearn.prompts.expand import templates
from clip_unlearn.prompts.wordings import plural


@final
class PromptEnsemble(Audit):
    """Accuracy on images of the forgotten when its classifier row is a mean over names and sentences.

    The row of every class is the mean of its unit text embeddings over a set of sentences; that of a class to forget
    over its name, synonyms, plural and thesaurus names too, other classes' names left out. What is left of a name in
    one wording adds up with what is left in others.
    """

    code: ClassVar = "B4"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    sentences: str = "varied"
    """Template set, file or sentence, as `--templates` takes it."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: all classes in every sentence, by each text tower that differs."""
        return Work(varied=size.text_towers * size.classes * len(templates(self.sentences)))

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy of the ensemble for each class to forget, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
        """
        images = measured_images(self.data, self.split, request)
        first, second = answers(before, images, request), answers(after, images, request)
        rows = [
            _rows(model, templates(self.sentences), [[name] for name in images.classes]) for model in (before, after)
        ]
        hits: list[list[Tensor]] = [[], []]
        for concept in request.forget:
            index, names = images.class_index(concept.name), _names(concept, images.classes)
            own = first.labels == index
            for place, (model, known) in enumerate(((before, first), (after, second))):
                texts = rows[place].clone()
                texts[index] = _rows(model, templates(self.sentences), [names])[0]
                hits[place].append(known.asked(texts).ranks[own] == 1)
        return shares("ensemble accuracy", torch.cat(hits[0]), torch.cat(hits[1]), "low")


def _names(concept: Concept, classes: Sequence[str]) -> list[str]:
    """Return all names of a concept that are no name of another class."""
    taken = {key(name) for name in classes} - {key(concept.name)}
    offered = (*concept.names, *thesaurus.synonyms(concept.name), *(plural(name) for name in concept.names))
    return [name for name in dict.fromkeys(offered) if key(name) not in taken]


def _rows(model: Model, sentences: Sequence[str], names: Sequence[Sequence[str]]) -> Tensor:
    """Return one row for each list of names: [k, d]."""
    flat = [sentence.replace("{}", name) for some in names for name in some for sentence in sentences]
    embedded = unit(model.texts(flat).float()).cpu()
    sizes = [len(some) * len(sentences) for some in names]
    return torch.stack([part.mean(0) for part in torch.split(embedded, sizes)])
