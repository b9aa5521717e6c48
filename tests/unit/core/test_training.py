"""Settings of a descent: optimisers by their formulas, the schedule, and a state that goes on bit for bit."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from clip_unlearn.core.training import Descent, restore, state_tensors
from clip_unlearn.files import tensors

SHAPES = ((4, 3), (5,), (), (2, 3, 2, 2), (3, 3))
OPTIMISERS = ("adafactor", "adam", "adamw", "sgd")


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES]


def gradients(step: int, leaves: list[Tensor]) -> None:
    """Give every weight but the last a gradient of its own for this step."""
    generator = torch.Generator().manual_seed(100 + step)
    for leaf in leaves[:-1]:
        leaf.grad = torch.randn(leaf.shape, generator=generator)


def after(settings: Descent, found: list[Tensor]) -> list[Tensor]:
    """Return one matrix after a step down each of these gradients in turn."""
    start = torch.arange(6.0).reshape(2, 3) / 3 - 1
    leaf = start.clone().requires_grad_()
    optimiser = settings.make([leaf])
    values = [start]
    for gradient in found:
        leaf.grad = gradient
        optimiser.step()
        values.append(leaf.detach().clone())
    return values


FIRST = torch.tensor([[1.0, -2.0, 0.5], [0.1, 3.0, -0.3]])
SECOND = torch.tensor([[0.2, -1.0, -0.5], [0.4, 1.0, 0.7]])


def test_sgd_has_momentum_and_decay():
    """v = 0.8 v + (g + 0.1 w), w = w - 0.05 v."""
    settings = Descent(optimiser="sgd", rate=0.05, momentum=0.8, weight_decay=0.1)
    start, one, two = after(settings, [FIRST, SECOND])
    speed = FIRST + 0.1 * start
    assert torch.allclose(one, start - 0.05 * speed, atol=1e-6)
    speed = 0.8 * speed + SECOND + 0.1 * one
    assert torch.allclose(two, one - 0.05 * speed, atol=1e-6)


def test_sgd_without_momentum_goes_straight_down():
    start, one, two = after(Descent(optimiser="sgd", rate=0.5, momentum=0.0), [FIRST, SECOND])
    assert torch.allclose(one, start - 0.5 * FIRST, atol=1e-6)
    assert torch.allclose(two, start - 0.5 * (FIRST + SECOND), atol=1e-6)


def adam_step(gradient: Tensor, moments: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    first, second = 0.9 * moments[0] + 0.1 * gradient, 0.999 * moments[1] + 0.001 * gradient**2
    step = (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
    return step, (first, second)


def test_adam_adds_decay_to_the_gradient():
    start, one, two = after(Descent(optimiser="adam", rate=0.05, weight_decay=0.1), [FIRST, SECOND])
    step, moments = adam_step(FIRST + 0.1 * start, (torch.zeros(2, 3), torch.zeros(2, 3)), 1)
    assert torch.allclose(one, start - 0.05 * step, atol=1e-6)
    step, _ = adam_step(SECOND + 0.1 * one, moments, 2)
    assert torch.allclose(two, one - 0.05 * step, atol=1e-6)


def test_adamw_decays_apart_from_the_gradient():
    start, one, two = after(Descent(optimiser="adamw", rate=0.05, weight_decay=0.1), [FIRST, SECOND])
    step, moments = adam_step(FIRST, (torch.zeros(2, 3), torch.zeros(2, 3)), 1)
    assert torch.allclose(one, start * (1 - 0.05 * 0.1) - 0.05 * step, atol=1e-6)
    step, _ = adam_step(SECOND, moments, 2)
    assert torch.allclose(two, one * (1 - 0.05 * 0.1) - 0.05 * step, atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 100.0])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adafactor_moves_by_a_share_of_the_entries(size, decay):
    """The first step is rate x rms(w) g / sqrt(r c / mean r), r and c the mean squares of rows and of columns."""
    rows, columns = (FIRST**2).mean(1, keepdim=True), (FIRST**2).mean(0, keepdim=True)
    update = FIRST / (rows * columns / rows.mean()).sqrt()
    update = update / max(1.0, float(update.pow(2).mean().sqrt()))
    start = size * (torch.arange(6.0).reshape(2, 3) / 3 - 1)
    leaf = start.clone().requires_grad_()
    leaf.grad = FIRST
    Descent(rate=0.01, weight_decay=decay).make([leaf]).step()
    wanted = start * (1 - 0.01 * decay) - 0.01 * float(start.pow(2).mean().sqrt()) * update
    assert torch.allclose(leaf, wanted, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("steps", [1, 7, 100])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_the_rate_falls_along_half_a_cosine(steps, factor):
    settings = Descent(rate=0.02)
    rates = [settings.rate_at(step, steps, factor) for step in range(steps)]
    wanted = [factor * 0.02 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert rates == pytest.approx(wanted, abs=1e-15)
    assert rates[0] == factor * 0.02
    assert all(rates[place] > rates[place + 1] > 0 for place in range(steps - 1))
    assert settings.rate_at(0, steps) == 0.02


def test_the_rate_may_stay():
    settings = Descent(rate=0.02, schedule="constant")
    assert {settings.rate_at(step, 9) for step in range(9)} == {0.02}
    assert {settings.rate_at(step, 9, 0.5) for step in range(9)} == {0.01}


def paced(settings: Descent, optimiser: torch.optim.Optimizer, leaves: list[Tensor], steps: range) -> None:
    for step in steps:
        gradients(step, leaves)
        for group in optimiser.param_groups:
            group["lr"] = settings.rate_at(step, 9)
        optimiser.step()


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"momentum": 0.0}])
@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("halt", [0, 1, 4])
def test_a_restored_optimiser_goes_on_bit_for_bit(tmp_path: Path, name, settings, halt):
    """Also through a file, with weights of every shape and one that never has a gradient."""
    descent = Descent(optimiser=name, rate=0.03, **settings)
    whole = weights()
    paced(descent, descent.make(whole), whole, range(9))
    halted = weights()
    optimiser = descent.make(halted)
    paced(descent, optimiser, halted, range(halt))
    state = state_tensors(optimiser)
    tensors.write(tmp_path / "state.safetensors", state)
    resumed = [leaf.detach().clone().requires_grad_() for leaf in halted]
    again = descent.make(resumed)
    restore(again, tensors.read(tmp_path / "state.safetensors"))
    paced(descent, again, resumed, range(halt, 9))
    for one, other in zip(whole, resumed, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole[-1], weights()[-1])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_state_counts(name):
    """An optimiser that starts anew goes elsewhere: the test above can fail."""
    settings = Descent(optimiser=name, rate=0.03)
    whole, anew = weights(), weights()
    paced(settings, settings.make(whole), whole, range(9))
    paced(settings, settings.make(anew), anew, range(4))
    paced(settings, settings.make(anew), anew, range(4, 9))
    assert not torch.equal(whole[0], anew[0])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_state_is_a_copy(name):
    settings = Descent(optimiser=name, rate=0.03)
    leaves = weights()
    optimiser = settings.make(leaves)
    assert state_tensors(optimiser) == {}
    paced(settings, optimiser, leaves, range(2))
    state = state_tensors(optimiser)
    kept = {key: value.clone() for key, value in state.items()}
    other = settings.make([leaf.detach().clone().requires_grad_() for leaf in leaves])
    restore(other, state)
    paced(settings, optimiser, leaves, range(2, 4))
    paced(settings, other, other.param_groups[0]["params"], range(2, 4))
    assert state.keys() == kept.keys()
    assert all(torch.equal(state[key], kept[key]) for key in kept)


def test_adafactor_keeps_almost_nothing():
    leaf = torch.randn(40, 30).requires_grad_()
    leaf.grad = torch.randn(40, 30)
    for name, most in (("adafactor", 40 + 30 + 1), ("adam", 2 * 1200 + 1)):
        optimiser = Descent(optimiser=name).make([leaf])
        optimiser.step()
        assert sum(value.numel() for value in state_tensors(optimiser).values()) == most


def test_towers():
    assert Descent().trains == {"image", "text"}
    assert Descent(towers="image").trains == {"image"}
    assert Descent(towers="text").trains == {"text"}


def test_number_formats(tiny_clip):
    """A CPU does not compute bfloat16 faster than float32, so it is taken when asked for."""
    assert Descent().autocast(tiny_clip.model) is None
    assert Descent(precision="float32").autocast(tiny_clip.model) is None
    assert Descent(precision="bfloat16").autocast(tiny_clip.model) is torch.bfloat16


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0}, {"rate": 0.0}, {"rate": 11.0}, {"optimiser": "lion"}, {"momentum": 1.0}, {"weight_decay": -0.1},
        {"clip": 0.0}, {"part": 0}, {"check_every": 0}, {"patience": 0}, {"forget_batch": 0}, {"retain_batch": 0},
        {"towers": "none"}, {"schedule": "linear"}, {"precision": "float16"}, {"epochs": 3},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Descent(**bad)
