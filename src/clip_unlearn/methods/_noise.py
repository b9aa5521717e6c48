"""Noise that is learned for classes, and feeds of such noise. n noises, k classes, d embedding width."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final, final

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clip_unlearn.core import journal
from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import report
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import class_texts
from clip_unlearn.data.feed import ListedInputs, PairFeed, TextTable
from clip_unlearn.maths.vectors import unit

TOGETHER: Final = 64
"""Noises that are learned at a time; fewer take less memory and change the result by rounding alone."""

_FORGET, _RETAIN, _STEP, _START = 0, 1, 2, 3
_STREAMS: Final = 4
_PRIME: Final = 1_000_003


@final
@dataclass(frozen=True, kw_only=True)
class Learning:
    """How the noise of a class is learned."""

    count: int
    """Noises of each class."""

    steps: int
    rate: float
    """Of Adam, in units of normalised pixels: no pixel moves by much more in a step."""

    maximise: bool
    """Whether the classification loss of the own class rises, or falls."""

    penalty: float = 0.0
    """Weight of the squared length of a noise."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Noises:
    """Noises in normalised pixels with the classes that they were learned for, on the CPU."""

    pixels: Tensor
    """[n, 3, height, width]."""

    labels: Tensor
    """The place of each noise's class in the class list: [n]."""

    embeddings: Tensor
    """Unit embeddings by the model that they were learned on: [n, d]."""


def learned(model: Model, request: Request, names: Sequence[str], places: Sequence[int], how: Learning) -> Noises:
    """Return noises for the classes at some places of a class list, class by class.

    From a standard normal start of its own each noise z descends s CE(z) + penalty |z|^2 by Adam, CE the cross-entropy
    of the zero-shot classifier over the whole list at the own class, s = -1 where the error is maximised and 1 where it
    is minimised. The model stays as it is. Adam treats every pixel by itself, so that what is learned together does
    not matter.

    Source: Chundawat et al. 2023, arXiv 2201.05629; Tarun et al. 2023, arXiv 2111.08947.
    """
    space, device = model.adapter.pixels, model.device
    shape = (how.count, len(space.mean), space.height, space.width)
    labels = torch.tensor(places).repeat_interleave(how.count)
    start = torch.cat([torch.randn(shape, generator=_stream(request.seed, place, _START)) for place in places])
    rows = unit(class_texts(model, request, names))
    key = ["noise", model.fingerprint, str(device), request.digest, list(names), list(places), asdict(how)]
    parts = []
    for first in range(0, len(start), TOGETHER):
        some = slice(first, first + TOGETHER)
        one = partial(_descended, model, rows, start[some].to(device), labels[some].to(device), how)
        parts.append(journal.step([*key, first], one))
        report("noise", min(first + TOGETHER, len(start)), len(start))
    pixels, embeddings = (torch.cat([part[name] for part in parts]) for name in ("pixels", "embeddings"))
    return Noises(pixels=pixels, labels=labels, embeddings=embeddings)


def _descended(model: Model, rows: Tensor, start: Tensor, labels: Tensor, how: Learning) -> dict[str, Tensor]:
    """Return what becomes of some noises, and their unit embeddings."""
    noise = start.clone().requires_grad_()
    adam = torch.optim.Adam([noise], lr=how.rate)
    sign = -1.0 if how.maximise else 1.0
    for _ in range(how.steps):
        with torch.enable_grad():
            logits = model.logit_scale * unit(model.images(noise).float()) @ rows.T
            error = cross_entropy(logits, labels, reduction="sum")
            objective = sign * error + how.penalty * noise.square().sum()
        # With respect to the noise alone: backward() would also fill .grad of weights that ask for it.
        (noise.grad,) = torch.autograd.grad(objective, noise)
        adam.step()
    with torch.no_grad():
        return {"pixels": noise.detach(), "embeddings": unit(model.images(noise).float())}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseRows:
    """Some noises, as the rows of one side of a step."""

    noises: Noises
    rows: Tensor
    names: tuple[str, ...]
    texts: TextTable

    @property
    def pixels(self) -> Tensor:
        """Return the noises: [n, 3, height, width]."""
        return self.noises.pixels[self.rows]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Return the sentence of each noise's class."""
        return tuple(self.names[label] for label in self.labels.tolist())

    @property
    def labels(self) -> Tensor:
        """Return the place of each noise's class in the class list: [n]."""
        return self.noises.labels[self.rows]

    @property
    def before_images(self) -> Tensor:
        """Return the noises' unit embeddings by the model as it was: [n, d]."""
        return self.noises.embeddings[self.rows]

    @property
    def before_texts(self) -> Tensor:
        """Return the sentences' unit embeddings by the model as it was: [n, d]."""
        return self.texts(self.sentences, self.names)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseFeed:
    """Batches of noises on both sides, drawn anew in every step; never more of a side than there are."""

    request: Request
    names: tuple[str, ...]
    """The class list, those to forget first."""

    forget: Noises
    retain: Noises
    forget_batch: int
    retain_batch: int
    texts: TextTable

    def __call__(self, number: int) -> ListedInputs:
        """Return the inputs of a step."""
        seed, templates = self.request.seed, self.request.templates
        step = _stream(seed, number, _STEP)
        template = templates[int(torch.randint(len(templates), (), generator=step))]
        names = tuple(template.replace("{}", name) for name in self.names)
        forget = _drawn(self.forget, self.forget_batch, _stream(seed, number, _FORGET))
        retain = _drawn(self.retain, self.retain_batch, _stream(seed, number, _RETAIN))
        return ListedInputs(
            forget=NoiseRows(noises=self.forget, rows=forget, names=names, texts=self.texts),
            retain=NoiseRows(noises=self.retain, rows=retain, names=names, texts=self.texts),
            names=names,
            forgotten=len(self.request.forget),
            seed=int(torch.randint(2**31, (), generator=step)),
            texts=self.texts,
        )


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyFeed:
    """A feed of pairs with noises in place of its images to be forgotten."""

    feed: PairFeed
    noises: Noises
    forget_batch: int

    def __call__(self, number: int) -> ListedInputs:
        """Return the inputs of a step."""
        pairs = self.feed(number)
        rows = _drawn(self.noises, self.forget_batch, _stream(self.feed.pairs.request.seed, number, _FORGET))
        return ListedInputs(
            forget=NoiseRows(noises=self.noises, rows=rows, names=pairs.names, texts=pairs.texts),
            retain=pairs.retain,
            names=pairs.names,
            forgotten=pairs.forgotten,
            seed=pairs.seed,
            texts=pairs.texts,
        )


def _drawn(noises: Noises, size: int, generator: torch.Generator) -> Tensor:
    """Return the places of some noises, each at most once: [n]."""
    return torch.randperm(len(noises.labels), generator=generator)[:size]


def _stream(seed: int, number: int, stream: int) -> torch.Generator:
    """Return a generator of its own for every number of every stream."""
    return torch.Generator().manual_seed(((seed * _PRIME + number) * _STREAMS + stream) % 2**63)
