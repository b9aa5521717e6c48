"""How well found images agree with labels or captions, where the data has any. n images."""

import torch
from torch import Tensor

from clip_unlearn.core.request import Concept, key
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.mentions import mentions
from clip_unlearn.maths.intervals import wilson
from clip_unlearn.maths.mixture import average_precision
from clip_unlearn.prompts import thesaurus
from clip_unlearn.runs.found import Share, Truth


def truth_of(images: ImageSet, concept: Concept, kept: tuple[int, ...], chosen: Tensor, scores: Tensor) -> Truth | None:
    """Return precision, recall and average precision of what was chosen, or None where nothing says what is true.

    By class where there are labels: one that is called as the concept, or as a synonym that the thesaurus has for it.
    By captions else: one that mentions such a name as whole words. Shapes: `chosen` and `scores` [n], one for each of
    `kept`, the readable images.
    """
    names = _all_names(concept)
    if images.labels:
        known = {thesaurus.spelling(name) for name in names}
        own = [thesaurus.spelling(name) in known for name in images.classes]
        shown = torch.tensor([own[images.labels[row]] for row in kept])
    elif len(images.captions):
        named = mentions(names)
        shown = torch.tensor([any(map(named, images.captions[row])) for row in kept])
    else:
        return None
    if not bool(shown.any()) or not bool(chosen.any()):
        return None
    hits = int((shown & chosen).sum())
    return Truth(
        by="labels" if images.labels else "captions",
        images=int(shown.sum()),
        precision=_share(hits, int(chosen.sum())),
        recall=_share(hits, int(shown.sum())),
        average_precision=average_precision(scores, shown),
    )


def _all_names(concept: Concept) -> tuple[str, ...]:
    names = {key(name): name for name in concept.names}
    for name in concept.names:
        for other in thesaurus.synonyms(name):
            names.setdefault(key(other), other)
    return tuple(names.values())


def _share(hits: int, count: int) -> Share:
    low, high = wilson(hits, count)
    return Share(value=hits / count, low=low, high=high, count=count)
