"""Embeddings in parts and over processes: the loss and its gradient are those of one graph."""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from clip_unlearn.core import embedder as module
from clip_unlearn.core.descent import trained_weights
from clip_unlearn.core.embedder import Embedder
from clip_unlearn.core.model import Model

COUNT = 7
SENTENCES = (
    "a cat", "a very old red teapot", "the dog", "one small picture of a mug .", "bird", "a big car", "a red bird",
)  # fmt: skip
BOTH = frozenset({"image", "text"})
NAMES: dict[str, tuple[str, ...]] = {}
"""Names of the trained weights by model, looked up once."""

Loss = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(COUNT, 3, 32, 32, generator=torch.Generator().manual_seed(8))


def contrastive(images: Tensor, texts: Tensor, _: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over both directions of -log softmax of the own pair: every pair meets every other."""
    logits = 20 * images @ texts.T
    return -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean())


def weighted(images: Tensor, texts: Tensor, leaves: Mapping[str, Tensor]) -> Tensor:
    """Return a loss of the embeddings and of the weights themselves."""
    return contrastive(images, texts, leaves) + 0.1 * sum((leaf**2).sum() for leaf in leaves.values())


def of_images(images: Tensor, texts: Tensor, _: Mapping[str, Tensor]) -> Tensor:
    """Return a loss that asks for sentences and does not use them."""
    return (images @ images.T)[0].sum() + 0 * texts.detach().sum()


def of_weights(images: Tensor, texts: Tensor, leaves: Mapping[str, Tensor]) -> Tensor:
    return sum((leaf.abs()).sum() for leaf in leaves.values()) + 0 * (images.detach().sum() + texts.detach().sum())


def leaves_of(model: Model) -> dict[str, Tensor]:
    if model.fingerprint not in NAMES:
        NAMES[model.fingerprint] = trained_weights(model, "both")
    return {name: model.weights[name].detach().clone().requires_grad_() for name in NAMES[model.fingerprint]}


def found_by(
    model: Model, pixels: Tensor, loss: Loss, *, sentences: Sequence[str] = SENTENCES, part: int | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    leaves = leaves_of(model)
    one = Embedder(model.replace(leaves), BOTH, part=part)
    value = loss(one.images(pixels), one.texts(sentences), leaves)
    return value.detach(), one.gradients(value, leaves)


def one_graph(
    model: Model, pixels: Tensor, loss: Loss, *, sentences: Sequence[str] = SENTENCES
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return loss and gradient with neither parts nor the embedder."""
    leaves = leaves_of(model)
    draft = model.replace(leaves)
    images, texts = draft.images(pixels), draft.texts(sentences)
    value = loss(images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True), leaves)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return value.detach(), {name: each for name, each in zip(leaves, found, strict=True) if each is not None}


def check_equal(found: tuple[Tensor, dict[str, Tensor]], wanted: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-5)
    assert found[1].keys() == wanted[1].keys()
    largest = max(float(each.abs().max()) for each in wanted[1].values())
    assert largest > 1e-3
    for name, each in wanted[1].items():
        torch.testing.assert_close(found[1][name], each, rtol=1e-4, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize("part", [None, 1, 2, 3, 6, 7])
@pytest.mark.parametrize("loss", [contrastive, weighted, of_images, of_weights])
def test_parts_of_any_size_give_the_gradient_of_the_whole_batch(tiny_clip, pictures, loss, part):
    wanted = one_graph(tiny_clip.model, pictures, loss)
    check_equal(found_by(tiny_clip.model, pictures, loss, part=part), wanted)


def test_the_gradient_of_parts_alone_is_another(tiny_clip, pictures):
    """A contrastive loss depends on the whole batch, so the test above can fail."""
    wanted = one_graph(tiny_clip.model, pictures, contrastive)[1]
    halves = [
        one_graph(tiny_clip.model, pictures[rows], contrastive, sentences=SENTENCES[rows])[1]
        for rows in (slice(0, 4), slice(4, 7))
    ]
    name = max(wanted, key=lambda each: float(wanted[each].norm()))
    apart = (4 * halves[0][name] + 3 * halves[1][name]) / 7
    assert float((apart - wanted[name]).norm()) > 0.1 * float(wanted[name].norm())


def test_families_agree(tiny):
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    wanted = one_graph(tiny.model, pixels, contrastive, sentences=SENTENCES[:5])
    check_equal(found_by(tiny.model, pixels, contrastive, sentences=SENTENCES[:5], part=2), wanted)


def test_one_side_may_fit_and_the_other_not(tiny_clip, pictures):
    def loss(images: Tensor, texts: Tensor, _: Mapping[str, Tensor]) -> Tensor:
        return (images @ texts.T).exp().sum().log()

    wanted = one_graph(tiny_clip.model, pictures[:3], loss)
    check_equal(found_by(tiny_clip.model, pictures[:3], loss, part=4), wanted)


def counting(model: Model, sizes: list[tuple[int, bool]]) -> Model:
    """Return the model, which notes how many images it is given at a time and whether it keeps a graph."""
    tower = model.adapter.image

    def embed(inner: torch.nn.Module, pixels: Tensor) -> Tensor:
        sizes.append((len(pixels), torch.is_grad_enabled()))
        return tower.embed(inner, pixels)

    adapter = dataclasses.replace(model.adapter, image=dataclasses.replace(tower, embed=embed))
    return dataclasses.replace(model, adapter=adapter)


def test_no_pass_is_of_more_than_a_part(tiny_clip, pictures):
    sizes: list[tuple[int, bool]] = []
    model = counting(tiny_clip.model, sizes)
    leaves_of(model)
    sizes.clear()
    found_by(model, pictures, contrastive)
    assert sizes == [(7, True)]
    sizes.clear()
    found_by(model, pictures, contrastive, part=3)
    assert sizes == [(3, False), (3, False), (1, False), (3, True), (3, True), (1, True)]
    sizes.clear()
    found_by(model, pictures, of_weights, part=3)
    assert sizes == [(3, False), (3, False), (1, False)], "what the loss does not use is not embedded again"


@pytest.mark.parametrize("part", [None, 2])
def test_embeddings_are_of_length_1_and_in_float32(tiny_clip, pictures, part):
    rows = {}
    for precision in (None, torch.bfloat16):
        one = Embedder(tiny_clip.model, BOTH, part=part, precision=precision)
        rows[precision] = torch.cat([one.images(pictures), one.texts(SENTENCES)]).detach()
        assert rows[precision].dtype == torch.float32
        assert torch.allclose(rows[precision].norm(dim=1), torch.ones(2 * COUNT), atol=1e-6)
    apart = float((rows[None] - rows[torch.bfloat16]).abs().max())
    assert 1e-4 < apart < 0.05, "the passes themselves are in the format asked for"


class Launch:
    """Several processes of one launch, played by threads: a meeting place and what each brings to it."""

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.own = count, threading.local()
        self.barrier, self.brought = threading.Barrier(count), [torch.zeros(0)] * count
        monkeypatch.setattr(module, "PartialState", self.state)
        monkeypatch.setattr(module, "gather", lambda rows: torch.cat(self.exchanged(rows)))
        monkeypatch.setattr(module, "reduce", lambda rows, _: torch.stack(self.exchanged(rows)).sum(0))

    def state(self) -> SimpleNamespace:
        return SimpleNamespace(num_processes=self.count, process_index=self.own.place)

    def exchanged(self, rows: Tensor) -> list[Tensor]:
        self.brought[self.own.place] = rows.detach().clone()
        self.barrier.wait(60)
        found = list(self.brought)
        self.barrier.wait(60)
        return found

    def run(self, work: Callable[[], object]) -> list[object]:
        results: list[object] = [None] * self.count

        def one(place: int) -> None:
            self.own.place = place
            try:
                results[place] = work()
            except BaseException:
                self.barrier.abort()
                raise

        threads = [threading.Thread(target=one, args=(place,)) for place in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


@pytest.mark.parametrize("part", [None, 2])
@pytest.mark.parametrize(("count", "processes"), [(7, 2), (6, 2), (7, 3), (5, 4), (1, 3)])
def test_processes_share_a_batch_whatever_its_size(tiny_clip, pictures, monkeypatch, count, processes, part):
    """With 5 inputs in 4 processes the last one has padding alone."""
    wanted = one_graph(tiny_clip.model, pictures[:count], weighted, sentences=SENTENCES[:count])
    launch = Launch(processes, monkeypatch)
    found = launch.run(
        lambda: found_by(tiny_clip.model, pictures[:count], weighted, sentences=SENTENCES[:count], part=part)
    )
    for each in found:
        check_equal(each, wanted)


@pytest.mark.parametrize("loss", [of_images, of_weights])
def test_processes_agree_on_what_a_loss_does_not_use(tiny_clip, pictures, monkeypatch, loss):
    wanted = one_graph(tiny_clip.model, pictures, loss)
    for each in Launch(2, monkeypatch).run(lambda: found_by(tiny_clip.model, pictures, loss)):
        check_equal(each, wanted)
