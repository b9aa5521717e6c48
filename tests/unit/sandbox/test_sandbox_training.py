"""Pools, batches and losses the embedded models are trained with."""

import math

import numpy as np
import pytest
import torch

from clip_unlearn.sandbox.classes import CLASS_NAMES, DOMAINS, find_class
from clip_unlearn.sandbox.sentences import Caption, state
from clip_unlearn.sandbox.training.batches import augmented, batches, truth
from clip_unlearn.sandbox.training.evaluate import share_of
from clip_unlearn.sandbox.training.losses import contrastive_loss, copy_loss, name_loss
from clip_unlearn.sandbox.training.pool import build_pool
from clip_unlearn.sandbox.training.schedule import set_rate


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return build_pool("stop", 1, tmp_path_factory.mktemp("pool"))


def test_a_pool_holds_every_class_in_every_domain(pool):
    assert pool.pixels.shape == (len(CLASS_NAMES) * len(DOMAINS), 3, 48, 48)
    assert sorted(set(pool.labels.tolist())) == list(range(len(CLASS_NAMES)))
    assert np.bincount(pool.domains).tolist() == [len(CLASS_NAMES)] * len(DOMAINS)


def test_a_pool_is_read_back_from_its_cache(pool, tmp_path):
    assert np.array_equal(build_pool("stop", 1, tmp_path).pixels, pool.pixels)
    assert np.array_equal(build_pool("stop", 1, tmp_path).pixels, pool.pixels)


@pytest.mark.parametrize("forgotten", ["mug", "cat", "car"])
def test_an_oracles_pictures_and_sentences_are_free_of_the_forgotten_class(pool, forgotten):
    item = find_class(forgotten)
    kept = pool.without(forgotten)
    random = np.random.default_rng(0)
    assert len(kept.labels) == len(pool.labels) - len(DOMAINS)
    assert CLASS_NAMES.index(forgotten) not in kept.labels
    for picture in kept.pictures:
        said = " ".join(state(picture, random).text for _ in range(12)).replace(".", " ").split()
        assert not {*item.names, *(f"{name}s" for name in item.names)} & set(said)
        assert item.definition not in " ".join(said)


def test_without_no_class_is_the_same_pool(pool):
    assert pool.without("") is pool


def test_batches_are_disjoint_and_whole(pool):
    rows = list(batches(pool, 20, np.random.default_rng(0)))
    assert [len(batch) for batch in rows] == [20] * 4
    assert len(set(np.concatenate(rows).tolist())) == 80


def test_augmented_pictures_keep_shape_and_range(pool):
    pixels = augmented(pool.pixels[:8], np.random.default_rng(0))
    assert pixels.shape == (8, 3, 48, 48)
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 255


def test_truth_says_which_caption_holds_for_which_picture(pool):
    pictures = pool.pictures[:9]
    said = [Caption(text="a mug", class_name="mug"), Caption(text="a vessel", group="vessel"),
            Caption(text="a sketch of a bowl", class_name="bowl", domain="sketch")]  # fmt: skip
    expected = [[caption.holds(picture) for picture in pictures] for caption in said]
    assert truth(said, pictures).tolist() == expected
    assert [sum(row) for row in expected] == [3, 9, 1]


def test_copy_loss_is_one_minus_the_cosine():
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(copy_loss(a, a)) == pytest.approx(0)
    assert float(copy_loss(a, a.flip(0))) == pytest.approx(1)


def test_contrastive_loss_of_a_perfect_pairing_is_the_closed_form():
    eye = torch.eye(3)
    loss = contrastive_loss(eye, eye, torch.eye(3).bool(), torch.tensor(math.log(5.0)))
    assert float(loss) == pytest.approx(-5 + math.log(math.exp(5) + 2), rel=1e-5)


def test_contrastive_loss_skips_rows_without_a_match():
    eye = torch.eye(3)
    matches = torch.tensor([[True, False, False], [False, True, False]])
    assert math.isfinite(float(contrastive_loss(eye, eye[:2], matches, torch.tensor(1.0))))


def test_name_loss_prefers_the_right_name():
    eye = torch.eye(3)
    right = name_loss(eye, eye, torch.arange(3), torch.tensor(2.0))
    wrong = name_loss(eye, eye, torch.tensor([1, 2, 0]), torch.tensor(2.0))
    assert float(right) < float(wrong)


def test_the_step_size_rises_then_falls_to_zero():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for progress in (0.0, 0.04, 0.08, 0.5, 1.0):
        set_rate(optimizer, 2.0, progress)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == 0
    assert rates[1] == pytest.approx(1)
    assert rates[2] == pytest.approx(2)
    assert 0 < rates[3] < 2
    assert rates[4] == pytest.approx(0)


def test_a_share_carries_its_interval():
    share = share_of(np.array([True] * 9 + [False]))
    assert share["value"] == pytest.approx(0.9)
    assert share["count"] == 10
    assert 0.5 < share["low"] < 0.9 < share["high"] < 1
