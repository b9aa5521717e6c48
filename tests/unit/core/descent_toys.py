"""A training task small enough to count: pictures of noise, sentences, and two sides with a loss."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clip_unlearn.core.descent import Loss, Task, trained_weights
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.model import Model
from clip_unlearn.core.step import Step

FORGET = ("a cat", "the cat", "a very big cat", "one cat", "a red cat", "a picture of a cat")
RETAIN = (
    "a dog", "a teapot", "the mug", "a red bird", "an old car", "a small dog", "one teapot", "a drawing of a bird",
)  # fmt: skip
NAMES = ("a photo of a cat", "a photo of a dog", "a photo of a mug")


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyRows:
    pixels: Tensor
    sentences: Sequence[str]
    labels: Tensor
    before_images: Tensor
    before_texts: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyInputs:
    forget: ToyRows
    retain: ToyRows
    names: Sequence[str]
    before_names: Tensor
    forgotten: int
    generator: torch.Generator


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


class Feed:
    """Inputs of numbered steps, four rows of each side at a time; remembers the numbers asked for."""

    def __init__(self, model: Model) -> None:
        generator = torch.Generator().manual_seed(4)
        self.asked: list[int] = []
        with torch.no_grad():
            self.sides = [self.side(model, sentences, generator) for sentences in (FORGET, RETAIN)]
            self.names = unit(model.texts(NAMES).float())

    @staticmethod
    def side(model: Model, sentences: Sequence[str], generator: torch.Generator) -> ToyRows:
        pixels = torch.randn(len(sentences), 3, 32, 32, generator=generator)
        images, texts = (unit(rows.float()) for rows in (model.images(pixels), model.texts(sentences)))
        labels = torch.arange(len(sentences)) % len(NAMES)
        return ToyRows(pixels=pixels, sentences=sentences, labels=labels, before_images=images, before_texts=texts)

    def __call__(self, number: int) -> ToyInputs:
        self.asked.append(number)
        return ToyInputs(
            forget=self.taken(self.sides[0], number),
            retain=self.taken(self.sides[1], number),
            names=NAMES,
            before_names=self.names,
            forgotten=1,
            generator=torch.Generator().manual_seed(number),
        )

    @staticmethod
    def taken(side: ToyRows, number: int) -> ToyRows:
        rows = [(4 * number + place) % len(side.sentences) for place in range(4)]
        return ToyRows(
            pixels=side.pixels[rows],
            sentences=[side.sentences[row] for row in rows],
            labels=side.labels[rows],
            before_images=side.before_images[rows],
            before_texts=side.before_texts[rows],
        )


def apart(step: Step) -> Tensor:
    """Return a loss that pulls forget pairs apart and holds the others together, with noise of the step's own."""
    forget, retain = step.forget, step.retain
    logits = 10 * retain.images @ retain.texts.T
    noise = 0.01 * torch.randn(4, generator=step.generator)
    return ((1 + noise) * (forget.images * forget.texts).sum(1)).mean() - logits.log_softmax(1).diagonal().mean()


def task_of(model: Model, loss: Loss = apart, *, towers: str = "both", **fields: object) -> Task:
    return Task(
        **{"model": model, "feed": Feed(model), "loss": loss, "weights": trained_weights(model, towers), **fields}
    )


def bytes_of(model: Model) -> dict[str, bytes]:
    return {
        name: weight.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        for name, weight in model.weights.items()
    }


def marked(hits: int, probability: float = 0.5) -> Mark:
    """Return a mark whose balance is the better the fewer hits of ten there are."""
    return Mark(forget_hits=hits, forget_count=10, retain_hits=10, retain_count=10, forget_probability=probability)


class Looks:
    """Looks with marks that were agreed on; remembers the models that were looked at."""

    def __init__(self, *marks: Mark) -> None:
        self.marks, self.seen = marks, list[Model]()

    def __call__(self, model: Model) -> Mark:
        self.seen.append(model)
        return self.marks[min(len(self.seen), len(self.marks)) - 1]


def measured(model: Model) -> Mark:
    """Return a mark that depends on the weights alone: a dice throw for every state."""
    dice = random.Random(model.fingerprint)
    return marked(dice.randrange(2, 9), dice.random())


def watched(model: Model, note: Callable[[str, int], None]) -> Model:
    """Return the model, which calls `note` with tower and size before every pass."""

    def noted(tower: object, name: str) -> object:
        def embed(module: nn.Module, inputs: object) -> Tensor:
            size = len(inputs) if isinstance(inputs, Tensor) else len(next(iter(inputs.values())))
            note(name, size)
            return tower.embed(module, inputs)

        return dataclasses.replace(tower, embed=embed)

    adapter = model.adapter
    adapter = dataclasses.replace(adapter, image=noted(adapter.image, "image"), text=noted(adapter.text, "text"))
    return dataclasses.replace(model, adapter=adapter)
