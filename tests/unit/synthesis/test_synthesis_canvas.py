"""Noise, blur and variation of pictures, and how many of them are computed at once."""

import pytest
import torch

from clip_unlearn.synthesis import canvas
from clip_unlearn.synthesis.canvas import blurred, few_threads, noise, portions, variation


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_noise_is_grey_bounded_and_takes_its_grains_in_turn():
    pictures = noise(40, (32, 24), (1, 8), seeded())
    assert pictures.shape == (40, 3, 32, 24)
    assert float(pictures.min()) >= 0
    assert float(pictures.max()) <= 1
    assert float(pictures.mean()) == pytest.approx(0.5, abs=0.01)
    fine, coarse = variation(pictures).view(20, 2).unbind(1)
    assert float(fine.min()) > 2 * float(coarse.max())


def test_noise_of_grain_one_is_the_draw_itself():
    drawn = torch.randn(1, 3, 5, 6, generator=seeded())
    torch.testing.assert_close(noise(1, (5, 6), (1,), seeded()), (0.5 + 0.2 * drawn).clamp(0, 1))


@pytest.mark.parametrize("deviation", [0.3, 0.5, 2.0])
def test_blur_keeps_flat_pictures_and_spreads_a_point_evenly(deviation):
    flat = torch.full((2, 3, 9, 9), 0.3)
    torch.testing.assert_close(blurred(flat, deviation), flat)
    point = torch.zeros(1, 3, 25, 25)
    point[..., 12, 12] = 1
    spread = blurred(point, deviation)
    torch.testing.assert_close(spread.sum((2, 3)), torch.ones(1, 3))
    torch.testing.assert_close(spread, spread.transpose(2, 3))
    ratio = spread[0, 0, 12, 13] / spread[0, 0, 12, 12]
    assert float(ratio) == pytest.approx(float(torch.exp(torch.tensor(-0.5 / deviation**2))), rel=1e-4)


def test_variation_counts_steps_across_and_down():
    picture = torch.zeros(1, 3, 4, 5)
    picture[..., 2:, :] = 1
    assert float(variation(picture)) == pytest.approx(1 / 3)
    assert float(variation(picture.transpose(2, 3))) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("count", "side", "sizes"),
    [(0, 8, []), (5, 8, [5]), (70, 160, [32, 32, 6]), (100, 48, [86, 14]), (1000, 16, [781, 219])],
)
def test_portions_follow_from_the_size_of_pictures(count, side, sizes):
    found = portions(count, torch.empty(count or 1, 3, side, side))
    rows = torch.arange(count)
    assert [len(rows[part]) for part in found] == sizes
    assert torch.equal(torch.cat([rows[:0], *(rows[part] for part in found)]), rows)


def test_an_accelerator_takes_all_at_once():
    assert portions(1000, torch.empty(1000, 3, 160, 160, device="meta")) == (slice(0, 1000),)


def test_small_models_are_computed_with_one_thread(tiny_clip, monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyError), few_threads(tiny_clip.model):
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(canvas, "SMALL", 1)
        with few_threads(tiny_clip.model):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
