"""Losses of pairs against their formulas, written out in loops."""

import math

import numpy as np
import pytest
import torch

from clip_unlearn.maths import contrastive as losses


def rows(count, seed, width=5):
    found = np.random.default_rng(seed).normal(size=(count, width))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def tensors(*arrays):
    return [torch.from_numpy(each) for each in arrays]


def softmax(numbers):
    most = max(numbers)
    weights = [math.exp(each - most) for each in numbers]
    return [each / sum(weights) for each in weights]


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_classification(scale):
    images, names, labels = rows(6, 1), rows(4, 2), [0, 3, 1, 1, 2, 0]
    total = 0.0
    for image, label in zip(images, labels, strict=True):
        total -= math.log(softmax([scale * float(image @ name) for name in names])[label])
    found = losses.classification(*tensors(images, names), torch.tensor(labels), scale)
    assert float(found) == pytest.approx(total / 6, rel=1e-9)


def test_agreement():
    images, texts = rows(6, 3), rows(6, 4)
    wanted = [sum(a * b for a, b in zip(image, text, strict=True)) for image, text in zip(images, texts, strict=True)]
    assert losses.agreement(*tensors(images, texts)).tolist() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 14.3])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_contrastive(count, scale):
    """Mean over pairs and both directions of -log softmax of the own partner."""
    images, texts = rows(count, 5), rows(count, 6)
    total = 0.0
    for own in range(count):
        total -= math.log(softmax([scale * float(images[own] @ text) for text in texts])[own])
        total -= math.log(softmax([scale * float(image @ texts[own]) for image in images])[own])
    found = losses.contrastive(*tensors(images, texts), scale)
    assert float(found) == pytest.approx(total / (2 * count), rel=1e-9, abs=1e-12)


def divergence(now, before):
    """Return sum p log(p / q), p of before and q of now."""
    wanted, got = softmax(before), softmax(now)
    return sum(p * math.log(p / q) for p, q in zip(wanted, got, strict=True))


def test_divergence():
    now, before = (np.random.default_rng(seed).normal(size=(4, 6)) for seed in (7, 8))
    wanted = sum(divergence(list(one), list(other)) for one, other in zip(now, before, strict=True)) / 4
    assert float(losses.divergence(*tensors(now, before))) == pytest.approx(wanted, rel=1e-9)
    assert float(losses.divergence(*tensors(before, now))) != pytest.approx(wanted, rel=1e-2), "it has a direction"
    assert float(losses.divergence(*tensors(now, now))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_similarity_divergence(scale):
    images, texts, before_images, before_texts = (rows(5, seed) for seed in (9, 10, 11, 12))
    total = 0.0
    for own in range(5):
        total += divergence(
            [scale * float(images[own] @ text) for text in texts],
            [scale * float(before_images[own] @ text) for text in before_texts],
        )
        total += divergence(
            [scale * float(image @ texts[own]) for image in images],
            [scale * float(image @ before_texts[own]) for image in before_images],
        )
    found = losses.similarity_divergence(*tensors(images, texts, before_images, before_texts), scale)
    assert float(found) == pytest.approx(total / 5, rel=1e-9)


def test_nothing_moved_is_no_divergence():
    """Also where both sides turn together, because similarities are all that counts."""
    images, texts = tensors(rows(5, 13), rows(5, 14))
    turn, _ = torch.linalg.qr(torch.from_numpy(np.random.default_rng(15).normal(size=(5, 5))))
    assert float(losses.similarity_divergence(images @ turn, texts @ turn, images, texts, 30.0)) < 1e-12
    assert float(losses.similarity_divergence(images @ turn, texts, images, texts, 30.0)) > 1


@pytest.mark.parametrize(
    "loss",
    [
        lambda images, texts: losses.classification(images, texts[:3], torch.tensor([0, 2, 1, 1]), 7.0),
        lambda images, texts: losses.agreement(images, texts).mean(),
        lambda images, texts: losses.contrastive(images, texts, 7.0),
        lambda images, texts: losses.similarity_divergence(images, texts, *tensors(rows(4, 20), rows(4, 21)), 7.0),
    ],
    ids=["classification", "agreement", "contrastive", "similarity_divergence"],
)
def test_gradients(loss):
    images, texts = (each.requires_grad_() for each in tensors(rows(4, 16), rows(4, 17)))
    assert torch.autograd.gradcheck(loss, (images, texts))


def test_large_scales_do_not_overflow():
    images, texts = (each.float() for each in tensors(rows(6, 18), rows(6, 19)))
    for scale in (1e3, 1e5):
        assert math.isfinite(float(losses.contrastive(images, texts, scale)))
        assert math.isfinite(float(losses.similarity_divergence(images, texts, texts, images, scale)))
