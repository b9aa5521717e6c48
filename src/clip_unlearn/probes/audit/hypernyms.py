"""B5: what the edit did to the kind of thing that the forgotten is, and to others of that kind."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import shares
from clip_unlearn.core.request import Request, key
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.answers import Answers, answers, class_texts, measured_images
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.scores import cosines
from clip_unlearn.prompts import kinds


@final
class Hypernyms(Audit):
    """Share of the images of the forgotten that still show the kind of thing it is, and accuracy on its siblings.

    The wider words of a class ("vehicle" for a car) come from the list of kinds, or are given. An image counts where
    a wider word of its class scores higher than all wider words of other classes that are none of its own. A class
    may be forgotten with its kind kept or not, so neither direction is the wished one: a model that never saw a car
    may call one a vehicle or not. Other classes of the same kind are siblings; that they stay is wished.
    """

    code: ClassVar = "B5"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    wider: tuple[tuple[str, str], ...] = ()
    """Pairs of a class and a wider word of it, beside those of the list of kinds."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: a wider word for each class, by each text tower that differs."""
        return Work(names=size.names, sentences=size.names)

    @torch.no_grad()
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the share for every wider word, and the accuracy on siblings, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if no class to forget has a wider word that no other class lacks and another has not.
        """
        images = measured_images(self.data, self.split, request)
        first, second = answers(before, images, request), answers(after, images, request)
        words = {name: self._wider(name) for name in images.classes}
        readings: list[Readings] = []
        for concept in request.forget:
            own = words[images.classes[images.class_index(concept.name)]]
            mine = first.labels == images.class_index(concept.name)
            for word in own:
                others = sorted({one for other in words.values() for one in other} - set(own))
                if others:
                    pair = [
                        _wins(known, mine, class_texts(model, request, [word, *others]))
                        for known, model in ((first, before), (second, after))
                    ]
                    readings.append(shares("hypernym accuracy", pair[0], pair[1], "neither", of=word))
            readings.append(_siblings(images.classes, words, request, (first, second), own))
        if not any(readings):
            names = ", ".join(request.forget_names)
            raise UndefinedError(f"no wider word is known for {names} that tells it from classes of another kind")
        return tuple(reading for some in readings for reading in some)

    def _wider(self, name: str) -> tuple[str, ...]:
        given = [word for own, word in self.wider if key(own) == key(name)]
        return tuple(dict.fromkeys((*given, *kinds.wider(name))))


def _wins(known: Answers, mine: Tensor, rows: Tensor) -> Tensor:
    """Return which of the chosen images score higher with the first row than with any other: [n], [k, d] -> [m]."""
    scores = cosines(known.embeddings[mine], rows.to(known.embeddings)).cpu()
    return scores[:, 0] > scores[:, 1:].amax(1)


def _siblings(
    classes: Sequence[str],
    words: Mapping[str, Sequence[str]],
    request: Request,
    both: tuple[Answers, Answers],
    own: Sequence[str],
) -> Readings:
    """Return the accuracy on images of classes to retain that share a wider word with the forgotten."""
    gone = {key(name) for name in request.forget_names}
    near = [place for place, name in enumerate(classes) if key(name) not in gone and set(words[name]) & set(own)]
    chosen = torch.isin(both[0].labels, torch.tensor(near, dtype=both[0].labels.dtype))
    if not bool(chosen.any()):
        return ()
    return shares("sibling accuracy", both[0].ranks[chosen] == 1, both[1].ranks[chosen] == 1, "high")
