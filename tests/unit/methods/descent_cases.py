"""What tests of methods on the training loop share: made-up steps, small requests, finite differences."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clip_unlearn.core.embedder import Embedder
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.open import open_data
from clip_unlearn.data.pairs import Pairs, pairs_of

CLASSES = ("bird", "car", "cat", "dog")
FORGET = "cat"
SHORT = Descent(steps=4, rate=1e-2, check_every=2, forget_batch=4, retain_batch=6)
"""Few small steps, for tests of what goes in and comes out."""

DOWN = Descent(steps=6, rate=3e-3, check_every=3, forget_batch=6, retain_batch=12)
"""Steps that are enough to lower a loss."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FakeSide:
    """One side of a step: unit embeddings in float64 that a test can differentiate by."""

    images: Tensor
    texts: Tensor
    before_images: Tensor
    before_texts: Tensor
    labels: Tensor
    pixels: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class FakeStep:
    """A step whose embeddings are leaves; has what a loss may ask of `core.step.Step`."""

    forget: FakeSide
    retain: FakeSide
    names: Tensor
    before_names: Tensor
    forgotten: int
    scale: float
    seed: int
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "generator", self.fresh_generator())

    def fresh_generator(self) -> torch.Generator:
        """Return the generator of this step as it was before anything was drawn."""
        return torch.Generator().manual_seed(self.seed)

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Return every embedding by the model in training."""
        sides = {"forget": self.forget, "retain": self.retain}
        found = {f"{name}.{kind}": getattr(side, kind) for name, side in sides.items() for kind in ("images", "texts")}
        return {**found, "names": self.names}


def fake_step(
    seed: int = 0,
    *,
    forget: int = 4,
    retain: int = 6,
    names: int = 5,
    forgotten: int = 2,
    width: int = 8,
    scale: float = 6.0,
    captions: bool = False,
    at_start: bool = False,
) -> FakeStep:
    """Return a step of random unit embeddings in float64; with captions no image has a class.

    `at_start`: the model in training is still the one before.
    """
    random = torch.Generator().manual_seed(seed)

    def rows(count: int) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(count, width, generator=random, dtype=torch.float64), dim=1)

    def side(count: int, labels: Tensor) -> FakeSide:
        before = rows(count), rows(count)
        now = before if at_start else (rows(count), rows(count))
        return FakeSide(
            images=now[0].clone().requires_grad_(),
            texts=now[1].clone().requires_grad_(),
            before_images=before[0],
            before_texts=before[1],
            labels=torch.full_like(labels, -1) if captions else labels,
            pixels=torch.randn(count, 3, 4, 4, generator=random, dtype=torch.float64),
        )

    forget_labels = torch.arange(forget) % forgotten
    retain_labels = forgotten + torch.arange(retain) % (names - forgotten)
    before_names = rows(names)
    return FakeStep(
        forget=side(forget, forget_labels),
        retain=side(retain, retain_labels),
        names=(before_names.clone() if at_start else rows(names)).requires_grad_(),
        before_names=before_names,
        forgotten=forgotten,
        scale=scale,
        seed=seed,
    )


def value(loss: Tensor) -> float:
    """Return a loss as a number."""
    return float(loss.detach())


def numbers(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array, for formulas written out."""
    return tensor.detach().numpy()


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Return log softmax of every row, written out."""
    return np.array([[one - np.log(sum(np.exp(other) for other in row)) for one in row] for row in logits])


def cross_entropy(images: Tensor, names: Tensor, labels: Sequence[int], scale: float) -> float:
    """Return the mean of -log softmax(scale v.t)[label], written out."""
    found = log_probabilities(scale * numbers(images) @ numbers(names).T)
    return -float(np.mean([row[int(label)] for row, label in zip(found, labels, strict=True)]))


def mean_divergence(wanted: np.ndarray, now: np.ndarray) -> float:
    """Return the mean over rows of sum p log(p / q), both given as logs, written out."""
    return float(np.mean([np.sum(np.exp(p) * (p - q)) for p, q in zip(wanted, now, strict=True)]))


def check_gradient(loss: Callable[[FakeStep], Tensor], make: Callable[[], FakeStep]) -> None:
    """Check the gradient of a loss by every embedding against central differences; `make` gives equal steps."""
    step, nudge = make(), 1e-6
    names = list(step.leaves)
    found = torch.autograd.grad(loss(step), list(step.leaves.values()), allow_unused=True)
    for name, gradient in zip(names, found, strict=True):
        leaf = step.leaves[name]
        for place in (0, leaf.numel() // 2, leaf.numel() - 1):
            values = []
            for sign in (1, -1):
                moved = make()
                moved.leaves[name].detach().view(-1)[place] += sign * nudge
                values.append(value(loss(moved)))
            wanted = (values[0] - values[1]) / (2 * nudge)
            own = 0.0 if gradient is None else float(gradient.flatten()[place])
            assert own == pytest.approx(wanted, abs=1e-6), name


def reached(loss: Tensor, step: FakeStep) -> set[str]:
    """Return which embeddings a loss sends a gradient that is not zero to."""
    found = torch.autograd.grad(loss, list(step.leaves.values()), allow_unused=True)
    return {name for name, one in zip(step.leaves, found, strict=True) if one is not None and bool(one.any())}


def labelled_request(folder: Path, **rest: Any) -> Request:
    """Return a request about noise pictures in a folder, each class in its own tint, one of them to forget."""
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(8):
            _picture(place, index).save(folder / name / f"{index}.png")
    return _request(folder, **rest)


def captioned_request(folder: Path, **rest: Any) -> Request:
    """Return a request about the same pictures with captions and without classes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file_name,text"]
    for place, name in enumerate(CLASSES):
        for index, word in enumerate(("a", "the", "one", "very", "old", "big", "small", "red")):
            _picture(place, index).save(folder / f"{name}{index}.png")
            lines.append(f"{name}{index}.png,{word} {name}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return _request(folder, **rest)


def take_the_last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look find a better state than the last one: what random models recognise of noise is no matter."""
    looks = itertools.count()

    def examine(_pairs: Pairs, _model: Model, **_rest: object) -> Mark:
        return Mark(
            forget_hits=1, forget_count=2, retain_hits=1, retain_count=2, forget_probability=1 / (1 + next(looks))
        )

    monkeypatch.setattr(Pairs, "examine", examine)


def losses(
    method: Method, loss_of: Callable[[Any, Step], Tensor], model: Model, request: Request, patch: Patch
) -> tuple[float, float]:
    """Return the loss of a method on the pairs of its first step, by the model and by the patched one."""
    descent: Descent = method.descent  # type: ignore[attr-defined]
    feed = PairFeed(
        pairs=pairs_of(model, request), forget_batch=descent.forget_batch, retain_batch=descent.retain_batch
    )
    found = []
    for each in (model, patch.apply(model)):
        with torch.no_grad():
            found.append(float(loss_of(method, Step(inputs=feed(0), embedder=Embedder(each, descent.trains)))))
    return found[0], found[1]


def check_same_bytes(method: Method, model: Model, request: Request) -> Patch:
    """Check that a method gives the same patch twice, another one by another seed, and leaves the model alone."""
    before = model.fingerprint
    first, again = (method.forget(model, request) for _ in range(2))
    other = method.forget(model, request.model_copy(update={"seed": request.seed + 1}))
    assert first.deltas
    assert first.deltas.keys() == again.deltas.keys()
    assert all(torch.equal(first.deltas[name], again.deltas[name]) for name in first.deltas)
    assert not all(torch.equal(first.deltas[name], other.deltas[name]) for name in first.deltas.keys() & other.deltas)
    assert model.fingerprint == before
    return first


def _request(folder: Path, **rest: Any) -> Request:
    images = open_data(str(folder))
    return Request(
        **{
            "forget": (Concept(name=FORGET),),
            "retain": tuple(name for name in CLASSES if name != FORGET),
            "evidence": Evidence(where=images.where, digest=images.digest),
            **rest,
        }
    )


def _picture(place: int, index: int) -> Image.Image:
    pixels = np.random.default_rng((place, index)).integers(0, 200, (32, 32, 3), dtype=np.uint8)
    pixels[..., place % 3] += np.uint8(50 * (place < 3))
    return Image.fromarray(pixels)
