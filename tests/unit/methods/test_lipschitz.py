"""The Lipschitz loss and the choice of tensors, against sums and searches written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark_modules import load
from clip_unlearn.methods._lipschitz import importance, lipschitz_loss, lipschitz_parts, perturb, select

literal = load("literal_lip")


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantities(draws: int, count: int, width: int, seed: int = 0):
    """Return text, images, perturbed images and distances."""
    distances = some(draws, count, seed=seed + 3).abs() + 0.1
    return (
        some(width, seed=seed),
        some(count, width, seed=seed + 1),
        some(draws, count, width, seed=seed + 2),
        distances,
    )


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(0, 1000))
def test_the_loss_is_the_published_sum(draws, count, width, seed):
    text, images, perturbed, distances = quantities(draws, count, width, seed)
    slow = literal.loss_of(text, list(images), [list(around) for around in perturbed], distances.tolist())
    assert float(lipschitz_loss(text, images, perturbed, distances)) == pytest.approx(float(slow), rel=1e-6)


def test_its_gradients_are_those_of_the_sum():
    text, images, perturbed, distances = quantities(3, 4, 5)
    text.requires_grad_(), images.requires_grad_()
    fast = torch.autograd.grad(lipschitz_loss(text, images, perturbed, distances), (text, images))
    slow = literal.loss_of(text, list(images), [list(around) for around in perturbed], distances.tolist())
    for one, other in zip(fast, torch.autograd.grad(slow, (text, images)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-12)


def test_a_value_by_hand():
    """One picture, one draw: image part 5 / (2 x 2) / 2, text part 13 / (2 x 2) / 2."""
    zero, far = torch.zeros(1, 2), torch.tensor([[[3.0, 4.0]]])
    images, text = lipschitz_parts(torch.tensor([8.0, 16.0]), zero, far, torch.tensor([[2.0]]))
    assert (float(images), float(text)) == pytest.approx((0.625, 1.625))
    whole = lipschitz_loss(torch.tensor([8.0, 16.0]), zero, far, torch.tensor([[2.0]]))
    assert float(whole) == pytest.approx(2.25)


def test_the_batch_is_summed_and_the_draws_are_averaged():
    text, images, perturbed, distances = quantities(2, 3, 4)
    once = float(lipschitz_loss(text, images, perturbed, distances))
    twice = lipschitz_loss(text, images.repeat(2, 1), perturbed.repeat(1, 2, 1), distances.repeat(1, 2))
    again = lipschitz_loss(text, images, perturbed.repeat(2, 1, 1), distances.repeat(2, 1))
    assert float(twice) == pytest.approx(2 * once)
    assert float(again) == pytest.approx(once)


def test_no_gradient_goes_through_the_perturbed_branch():
    text, images, perturbed, distances = quantities(2, 3, 4)
    for one in (text, images, perturbed, distances):
        one.requires_grad_()
    lipschitz_loss(text, images, perturbed, distances).backward()
    assert (perturbed.grad, distances.grad) == (None, None)
    assert text.grad.abs().sum() > 0
    assert images.grad.abs().sum() > 0


def test_several_texts_count_by_their_mean():
    text, images, perturbed, distances = quantities(2, 3, 4)
    other = some(4, seed=9)
    parts = [lipschitz_parts(one, images, perturbed, distances)[1] for one in (text, other)]
    both = lipschitz_parts(torch.stack([text, other]), images, perturbed, distances)[1]
    assert float(both) == pytest.approx(float(sum(parts)) / 2)


def test_noise_that_is_nothing_gives_a_finite_loss():
    text, images, _, _ = quantities(1, 2, 3)
    assert lipschitz_loss(text, images, images[None], torch.zeros(1, 2)).isfinite()


def test_noise_is_clipped_to_the_range_of_the_batch():
    pixels = some(3, 3, 4, 5)
    noisy = perturb(pixels, 0.7, 2, torch.Generator().manual_seed(1))
    noise = torch.randn(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(1)).double()
    low, high = float(pixels.min()), float(pixels.max())
    for draw in range(2):
        for place in range(3):
            wanted = (pixels[place] + 0.7 * noise[draw, place]).clamp(low, high)
            torch.testing.assert_close(noisy[draw, place], wanted, rtol=0, atol=1e-12)
    assert int((noisy == high).sum()) > 0
    assert int((noisy == low).sum()) > 0


def test_importance_is_the_mean_size():
    assert importance(torch.tensor([[1.0, -3.0], [0.0, 4.0]])) == pytest.approx(2)


@given(st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.0, 3.0]), min_size=1, max_size=8), st.integers(0, 10))
def test_the_largest_are_selected_and_names_decide_ties(values, count):
    gradients = {f"part.{place}": torch.tensor([value, -value]) for place, value in enumerate(values)}
    scores = {name: importance(gradient) for name, gradient in reversed(gradients.items())}
    assert list(select(scores, count)) == literal.chosen(gradients, list(gradients), count)


def test_weight_and_bias_count_separately_and_size_does_not():
    scores = {"a.weight": importance(torch.full((100, 100), 0.1)), "a.bias": importance(torch.full((2,), 0.2))}
    assert select(scores, 1) == ("a.bias",)
