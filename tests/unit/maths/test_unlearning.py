"""Pieces of losses that forget, against formulas written out."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from clip_unlearn.maths.unlearning import contrast, negative_preference, shuffled, similarity_error


def rows(count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 6, generator=random, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_negative_preference_is_the_published_formula(beta):
    now, before = -3 * rows(2, 0)[0].abs(), -3 * rows(2, 1)[0].abs()
    ratios = [math.exp(float(one - other)) for one, other in zip(now, before, strict=True)]
    written = 2 / beta * np.mean([math.log(1 + ratio**beta) for ratio in ratios])
    assert float(negative_preference(now, before, beta)) == pytest.approx(written, abs=1e-12)


def test_negative_preference_is_ascent_for_a_small_beta_and_lets_go_for_a_large_one():
    before = torch.tensor([-0.1, -0.1], dtype=torch.float64)
    now = torch.tensor([-0.1, -8.0], dtype=torch.float64, requires_grad=True)
    for beta in (1e-6, 1.0):
        slope = torch.autograd.grad(negative_preference(now, before, beta), now)[0]
        written = [2 * math.exp(beta * n) / (math.exp(beta * n) + math.exp(beta * -0.1)) / 2 for n in (-0.1, -8.0)]
        assert slope.tolist() == pytest.approx(written, rel=1e-9)
    assert slope[1] < 1e-3 < slope[0]


def test_negative_preference_does_not_overflow():
    now = torch.tensor([-1e4, 0.0], requires_grad=True)
    loss = negative_preference(now, torch.tensor([0.0, -1e4]), 1.0)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, now)[0].isfinite().all()


def test_every_row_is_shuffled_by_itself():
    table = torch.arange(400.0).view(40, 10)
    found = shuffled(table, torch.Generator().manual_seed(0))
    assert torch.equal(found.sort(1).values, table)
    assert len({tuple(row) for row in (found - table[:, :1]).tolist()}) > 35
    assert torch.equal(found, shuffled(table, torch.Generator().manual_seed(0)))
    assert not torch.equal(found, shuffled(table, torch.Generator().manual_seed(1)))


def test_every_place_is_as_likely():
    counts = (shuffled(torch.eye(4)[0].expand(4000, 4), torch.Generator().manual_seed(3)) == 1).sum(0)
    assert counts.tolist() == pytest.approx([1000] * 4, abs=120)


def test_contrast_is_the_published_formula():
    anchors, attracting, repelling = rows(4, 0), rows(5, 1), rows(3, 2)
    repels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]]).bool()
    total = 0.0
    for anchor, marks in zip(anchors, repels, strict=True):
        exponentials = [math.exp(float(anchor @ one) / 0.3) for one, mark in zip(repelling, marks, strict=True) if mark]
        driven = math.log(sum(exponentials)) if exponentials else 0.0
        total += driven - np.mean([float(anchor @ one) / 0.3 for one in attracting])
    found = contrast(anchors, attracting, repelling, repels, 0.3)
    assert float(found) == pytest.approx(total / 4, abs=1e-12)


def test_what_nothing_repels_has_a_gradient_that_is_a_number():
    anchors, pulled = rows(3, 0).requires_grad_(), float((rows(3, 0) @ rows(4, 1).T).mean())
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    loss = contrast(anchors, rows(4, 1), rows(2, 2), nothing, 0.5)
    assert float(loss.detach()) == pytest.approx(-pulled / 0.5, abs=1e-12)
    assert torch.autograd.grad(loss, anchors)[0].isfinite().all()


def test_similarity_error_sums_both_directions():
    images, texts, wanted_images, wanted_texts = rows(4, 0), rows(3, 1), rows(4, 2), rows(3, 3)
    one_way = np.mean(
        [
            (float(image @ text) - float(wanted_image @ wanted_text)) ** 2
            for image, wanted_image in zip(images, wanted_images, strict=True)
            for text, wanted_text in zip(texts, wanted_texts, strict=True)
        ]
    )
    assert float(similarity_error(images, texts, wanted_images, wanted_texts)) == pytest.approx(2 * one_way, abs=1e-12)
