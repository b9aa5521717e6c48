"""K3: learn vectors that stand in the place of the forgotten name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import cross_entropy

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Readings
from clip_unlearn.core.readings import parts
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import embed_images
from clip_unlearn.maths.vectors import unit
from clip_unlearn.probes.audit._few import Examples, embedded, looking, of_both, open_examples
from clip_unlearn.probes.audit._scene import Scene, open_scene
from clip_unlearn.probes.audit._slots import Slots, find_slots


@final
class SoftPrompt(Audit):
    """Accuracy on images of the forgotten when its name is learned again, as vectors that no word has.

    All weights are frozen. In the sentences of a class to forget its name gives way to some vectors, which the text
    tower takes for the vectors of as many tokens. They are learned by Adam: cross-entropy of k images of every class
    over the rows of all classes, at the model's logit scale, where all other classes keep their names. They begin at
    random, normally distributed with the mean and the deviations of the vectors of the other names' tokens; of several
    beginnings the one with the least loss on the k images is taken. The mean over several draws of the k images, and
    the best over the numbers of vectors, which is an attacker's maximum.

    A name that was taken from the text side alone is found again so; images that no longer lie together are not. As
    with every attack that is shown the class, only what is above a model that never saw it counts.

    Source: textual inversion, arXiv 2208.01618; context optimisation, arXiv 2109.01134.
    """

    code: ClassVar = "K3"

    split: Literal["all", "stop", "select", "audit"] = "audit"
    """Part of the data to measure on."""

    shots: tuple[int, ...] = Field(default=(1, 5), min_length=1)
    """The k: images of every class to learn from."""

    tokens: tuple[int, ...] = Field(default=(1, 4), min_length=1)
    """How many vectors stand in the place of a name, from 1 to 16; each number is tried."""

    draws: int = Field(default=3, ge=1)
    """How often the images are drawn."""

    starts: int = Field(default=2, ge=1)
    """Random beginnings of every draw."""

    steps: int = Field(default=60, ge=1)
    """Steps of learning."""

    rate: float = Field(default=0.1, gt=0)
    """Learning rate, as a share of the size of the other names' vectors."""

    @field_validator("tokens")
    @classmethod
    def _check_tokens(cls, tokens: tuple[int, ...]) -> tuple[int, ...]:
        if not all(1 <= count <= 16 for count in tokens):
            raise ValueError("a name gives way to 1 to 16 vectors")
        return tokens

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much it takes: the images to learn from, and sentences there and back in every step."""
        tried = len(self.shots) * len(self.tokens) * self.draws * self.starts * size.templates
        known = looking(size, most=4 * max(self.shots))
        return known + Work(sentences=2 * 2 * self.steps * tried, names=size.names)

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy for every k, before, after and paired.

        Raises:
            DataError: if the data has no labels or lacks a class to forget, or the support shares an image with it.
            UndefinedError: if the support has too few images of a class to forget, or the text tower does not look its
                tokens up in a table of vectors.
        """
        scene = open_scene(self.data, self.split, request)
        examples = open_examples(self.support, scene, shots=max(self.shots), most=4 * max(self.shots))
        was, now = of_both(lambda model: self._found(model, scene, examples), before, after)
        return tuple(
            reading
            for shots in self.shots
            for reading in parts(f"{shots}-shot soft prompt accuracy", was[shots], now[shots], "neither")
        )

    def _found(self, model: Model, scene: Scene, examples: Examples) -> dict[int, Tensor]:
        """Return, for every k and image, in which share of the draws it is named right: [n]."""
        own, texts = embed_images(model, scene.images), unit(scene.texts(model).float())
        rows, labels = embedded(model, examples)
        rows, known = unit(rows).float().to(texts), Examples(images=examples.images, labels=labels)
        gone = [scene.images.class_index(concept.name) for concept in scene.request.forget]
        others = [name for place, name in enumerate(scene.classes) if place not in gone]
        lessons = []
        for shots in self.shots:
            some = [known.some(shots, scene.request.seed + draw) for draw in range(self.draws)]
            images, truth = (torch.stack([each[places] for places in some]) for each in (rows, labels))
            lessons.append(
                _Lesson(rows=images, labels=truth.to(images.device), texts=texts, gone=gone, scale=model.logit_scale)
            )
        found: dict[int, Tensor] = {}
        for count in dict.fromkeys(self.tokens):
            learned = self._learned(find_slots(model, scene.request, others, count), lessons, scene.request.seed)
            for shots, lesson, draws in zip(self.shots, lessons, learned, strict=True):
                hits = [scene.right(own.vectors, lesson.asked(row).cpu(), own.kept) for row in draws]
                share = torch.stack(hits).double().mean(0)
                found[shots] = max(found.get(shots, share), share, key=lambda one: float(one.mean()))
        return found

    def _learned(self, slots: Slots, lessons: Sequence["_Lesson"], seed: int) -> list[Tensor]:
        """Return the rows that each lesson teaches in every draw, those of the best beginning: [draws, g, d] each."""
        sets = len(lessons) * self.starts * self.draws * len(lessons[0].gone)
        noise = torch.randn((sets, slots.count, slots.known.shape[1]), generator=torch.Generator().manual_seed(seed))
        vectors = slots.known.mean(0) + noise.to(slots.known) * slots.known.std(0, correction=0)
        vectors.requires_grad_()
        optimizer = torch.optim.Adam([vectors], lr=self.rate * float(slots.known.square().mean().sqrt()))
        for _ in range(self.steps):
            with torch.enable_grad():
                losses = self._losses(slots.rows(vectors), lessons)
            # Of the vectors alone: the weights are shared with the model, and get no gradient.
            (vectors.grad,) = torch.autograd.grad(torch.stack(losses).sum(), [vectors])
            optimizer.step()
        with torch.no_grad():
            rows = slots.rows(vectors)
            best = [losses.argmin(0) for losses in self._losses(rows, lessons)]
        parted = self._parted(rows, len(lessons))
        return [own[places, torch.arange(self.draws)] for own, places in zip(parted, best, strict=True)]

    def _parted(self, rows: Tensor, lessons: int) -> Tensor:
        """Return rows by lesson, beginning and draw: [lessons, starts, draws, g, d]."""
        return rows.view(lessons, self.starts, self.draws, -1, rows.shape[1])

    def _losses(self, rows: Tensor, lessons: Sequence["_Lesson"]) -> list[Tensor]:
        """Return the losses of every lesson: [starts, draws] each."""
        return [lesson.losses(own) for own, lesson in zip(self._parted(rows, len(lessons)), lessons, strict=True)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lesson:
    """Few images of every class, and the rows they are named by. m images, k classes, g to forget, d width."""

    rows: Tensor
    """Unit embeddings [draws, m, d]."""

    labels: Tensor
    """Classes [draws, m]."""

    texts: Tensor
    """The model's own unit classifier rows [k, d]."""

    gone: Sequence[int]
    """The places of the classes to forget [g]."""

    scale: float

    def asked(self, rows: Tensor) -> Tensor:
        """Return the classifier with other rows of the classes to forget: [..., g, d] -> [..., k, d]."""
        texts = self.texts.expand(*rows.shape[:-2], *self.texts.shape).clone()
        texts[..., self.gone, :] = unit(rows)
        return texts

    def losses(self, rows: Tensor) -> Tensor:
        """Return the cross-entropy of choosing the right class: [starts, draws, g, d] -> [starts, draws]."""
        logits = self.scale * self.rows @ self.asked(rows).mT
        labels = self.labels.expand(len(rows), *self.labels.shape)
        losses = cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
        return losses.view(labels.shape).mean(-1)
