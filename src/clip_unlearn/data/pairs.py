"""Images with sentences: which to forget, which to retain, which are only looked at. n images, k classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal, TypeAlias, final

import torch
from torch import Tensor

from clip_unlearn.core.marks import Mark
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.request import Request, key
from clip_unlearn.data.answers import class_texts
from clip_unlearn.data.embed import Embeddings, embed_images
from clip_unlearn.data.images import ImageSet, OnDemand
from clip_unlearn.data.mentions import mentioned
from clip_unlearn.data.open import open_data
from clip_unlearn.data.prepared import pixels_of
from clip_unlearn.data.readout import at_readout, image_features
from clip_unlearn.data.splits import learned_and_held
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.maths.vectors import unit

Sentences: TypeAlias = Literal["auto", "classes", "captions"]
"""What an image is paired with: its class in a template, or one of its captions; auto prefers the class."""

LOOKED_AT: Final = 128
"""Most images to be retained that are looked at."""

NEAR_THE_TOP: Final = 5
"""Place up to which a caption counts as found among those of all images that are looked at."""

WIDE: Final = 8
"""So many captions at least for one place that counts as found: among five captions all would be found."""

BOTH: Final[frozenset[TowerName]] = frozenset({"image", "text"})

MEMORY: Final = 2_000_000_000
"""Bytes of prepared images that are held; beyond it they are prepared again."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """The images of a request's evidence with what is said about them, sorted by what is to become of them."""

    model: Model
    """The model as it was."""

    request: Request
    images: ImageSet
    names: tuple[tuple[str, ...], ...]
    """The class list: all names of every class, those to forget first."""

    labels: Tensor
    """The place of each image's class in the list, -1 where it has none: [n]."""

    captioned: bool
    """Whether images are paired with their captions instead of their classes."""

    forget: tuple[int, ...]
    """Images to be forgotten, to learn from."""

    retain: tuple[int, ...]
    """Images to be retained, to learn from."""

    held_forget: tuple[int, ...]
    """Images to be forgotten that are only looked at."""

    held_retain: tuple[int, ...]
    """Images to be retained that are only looked at."""

    _prepared: dict[int, Tensor] = field(default_factory=dict)
    _features: Tensor | None = None
    _before: Tensor | None = None
    _at_readout: dict[frozenset[TowerName], "Pairs"] = field(default_factory=dict)

    @cached_property
    def before(self) -> Tensor:
        """Return the images' unit embeddings by the model as it was, 0 for those that cannot be read: [n, d]."""
        return _rows_of(embed_images(self.model, self.images)) if self._before is None else self._before

    @property
    def forgotten(self) -> int:
        """Return how many classes at the head of the list are to be forgotten."""
        return len(self.request.forget)

    def at_readout(self, towers: frozenset[TowerName]) -> "Pairs":
        """Return the same pairs with features for pixels, and a model that takes them: see `data.readout.at_readout`.

        Raises:
            UnsupportedError: if a tower has no last linear layer of its own.
        """
        if towers not in self._at_readout:
            model = at_readout(self.model, towers)
            features = image_features(self.model, self.images) if "image" in towers else None
            self._at_readout[towers] = replace(
                self, model=model, _before=self.before, _features=features, _prepared={}, _at_readout={}
            )
        return self._at_readout[towers]

    def pixels(self, rows: Sequence[int]) -> Tensor:
        """Return prepared images: [len(rows), 3, height, width], or their features [len(rows), D]."""
        missing = [row for row in dict.fromkeys(rows) if row not in self._prepared]
        fresh = dict(zip(missing, self._prepare(missing), strict=True)) if missing else {}
        found = torch.stack([fresh[row] if row in fresh else self._prepared[row] for row in rows])
        room = MEMORY // (found[0].numel() * found.element_size()) - len(self._prepared)
        self._prepared.update(list(fresh.items())[: max(0, room)])
        return found

    @torch.no_grad()
    def examine(self, model: Model, *, moved: frozenset[TowerName] = BOTH) -> Mark:
        """Return how many of the images that are only looked at a model recognises.

        By class: the class is the first of the list. By caption: the image's caption is among the five nearest of the
        different captions of all images that are looked at; among the first eighth, where they are less than forty.
        Of `model` only the weights count: its towers are run as those of the pairs' own model are. An image tower that
        has not `moved` is not run again.
        """
        model = replace(model, adapter=self.model.adapter)
        rows = (*self.held_forget, *self.held_retain)
        if "image" in moved:
            embeddings = torch.cat([model.images(part.to(model.device)) for part in torch.split(self._held, 32)]).cpu()
        else:
            embeddings = self.before[list(rows)]
        near = 1
        if self.captioned:
            said = [self.images.captions[row][0] for row in rows]
            places = {caption: place for place, caption in enumerate(dict.fromkeys(said))}
            texts, labels = model.texts(list(places)), torch.tensor([places[caption] for caption in said])
            near = min(NEAR_THE_TOP, max(1, len(places) // WIDE))
        else:
            first = [names[0] for names in self.names]
            texts, labels = class_texts(model, self.request, first), self.labels[list(rows)]
        scores = cosines(embeddings, texts.cpu())
        hits = ranks(scores, labels) <= near
        own = (model.logit_scale * scores).softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1)
        count = len(self.held_forget)
        return Mark(
            forget_hits=int(hits[:count].sum()),
            forget_count=count,
            retain_hits=int(hits[count:].sum()),
            retain_count=len(self.held_retain),
            forget_probability=float(own[:count].double().mean()),
        )

    @cached_property
    def _held(self) -> Tensor:
        return self._prepare([*self.held_forget, *self.held_retain])

    def _prepare(self, rows: Sequence[int]) -> Tensor:
        if self._features is not None:
            return self._features[list(rows)]
        return pixels_of(self.images, self.model.adapter.prepare, rows)[0]


def pairs_of(
    model: Model, request: Request, *, sentences: Sentences = "auto", other_senses: Sequence[str] = ()
) -> Pairs:
    """Return the images of a request's evidence, sorted.

    With classes, an image is to be forgotten when its class is; without, when one of its captions has a name of a
    concept in it and none has one of `other_senses`, phrases in which a name means something else. Images of classes
    that are neither to be forgotten nor to be retained are left out, and so are images that cannot be read or, where
    captions are asked for, have none.

    Raises:
        UnsupportedError: if the request has no images.
        DataError: if they have changed, say nothing, or show less than two different images of a concept to forget (of
            all of them together, without classes) or none to retain.
    """
    images = _evidence(request)
    captioned = _captioned(images, sentences)
    embedded = embed_images(model, images)
    names = _class_list(request, images)
    labels = _labels(images, names)
    gone, stays = _sorted(images, request, labels, other_senses)
    usable = torch.zeros(len(images), dtype=torch.bool)
    usable[[row for row in embedded.kept if not captioned or _has_caption(images, row)]] = True
    forget, held_forget = learned_and_held(images, _rows(gone & usable))
    retain, held_retain = learned_and_held(images, _rows(stays & usable))
    if lacking := _lacking(request, labels, held_forget, retain):
        raise DataError(
            f"{images.where} {lacking}. Give at least two different images of each concept, and some others."
        )
    drawn = torch.randperm(len(held_retain), generator=torch.Generator().manual_seed(request.seed))[:LOOKED_AT]
    return Pairs(
        model=model,
        request=request,
        images=images,
        names=names,
        labels=labels,
        captioned=captioned,
        forget=forget,
        retain=retain,
        held_forget=held_forget,
        held_retain=tuple(held_retain[place] for place in sorted(drawn.tolist())),
        _before=_rows_of(embedded),
    )


def retained_pairs(model: Model, request: Request, images: ImageSet, readable: Sequence[int]) -> Pairs:
    """Return labelled images that are all to be retained, to learn from, with their own classes as the class list.

    The images are embedded when their embeddings are asked for; `readable` are those that can be.
    """
    return Pairs(
        model=model,
        request=request,
        images=images,
        names=tuple((name,) for name in images.classes),
        labels=torch.tensor(images.labels),
        captioned=False,
        forget=(),
        retain=tuple(readable),
        held_forget=(),
        held_retain=(),
    )


def _rows(chosen: Tensor) -> list[int]:
    rows: list[int] = chosen.nonzero().flatten().tolist()
    return rows


def _rows_of(embedded: Embeddings) -> Tensor:
    """Return the images' unit embeddings, 0 for those that cannot be read: [n, d]."""
    rows = torch.zeros(len(embedded.kept) + len(embedded.quarantine), embedded.vectors.shape[1])
    rows[list(embedded.kept)] = unit(embedded.vectors.float())
    return rows


def _evidence(request: Request) -> ImageSet:
    if request.evidence is None:
        raise UnsupportedError("There are no images to learn from. Give them with --data or --evidence.")
    images = open_data(request.evidence.where)
    if images.digest != request.evidence.digest:
        raise DataError(
            f"{images.where} is no longer what the request was made with. Give the images of then, or a new request."
        )
    return images


def _captioned(images: ImageSet, sentences: Sentences) -> bool:
    if sentences == "classes" and not images.labels:
        raise DataError(f"{images.where} has no class labels. Give labelled images, or sentences=captions.")
    if sentences == "captions" and not len(images.captions):
        raise DataError(f"{images.where} has no captions. Give images with captions, or sentences=classes.")
    if not images.labels and not len(images.captions):
        raise DataError(f"{images.where} has neither labels nor captions to learn from. Give images with either.")
    return sentences == "captions" or not images.labels


def _has_caption(images: ImageSet, row: int) -> bool:
    """Return whether an image has a caption; those made on demand, which takes time, are there for every image."""
    return isinstance(images.captions, OnDemand) or bool(images.captions[row])


def _class_list(request: Request, images: ImageSet) -> tuple[tuple[str, ...], ...]:
    """Return all names of every class, those to forget first; the classes of the data where no name is to be kept."""
    own = tuple(concept.names for concept in request.forget)
    barred = {key(name) for names in own for name in names}
    rest = request.retain or tuple(name for name in images.classes if key(name) not in barred)
    return (*own, *((name,) for name in rest))


def _labels(images: ImageSet, names: Sequence[Sequence[str]]) -> Tensor:
    if not images.labels:
        return torch.full((len(images),), -1)
    places = {key(group[0]): place for place, group in enumerate(names)}
    of_class = [places.get(key(name), -1) for name in images.classes]
    return torch.tensor([of_class[label] for label in images.labels])


def _sorted(images: ImageSet, request: Request, labels: Tensor, other_senses: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return which images are to be forgotten and which retained: by class where they have one, else by captions."""
    if images.labels:
        return (labels >= 0) & (labels < len(request.forget)), labels >= len(request.forget)
    gone = mentioned(images, request, other_senses)
    return gone, ~gone


def _lacking(request: Request, labels: Tensor, held_forget: Sequence[int], retain: Sequence[int]) -> str:
    """Return what is missing to learn from and to look at, "" where nothing is."""
    seen = {int(labels[row]) for row in held_forget}
    unseen = [concept.name for place, concept in enumerate(request.forget) if place not in seen]
    if not seen or (unseen and -1 not in seen):
        return f"shows less than two different images of '{unseen[0]}'"
    return "" if retain else "shows nothing that is to be retained"
