"""The parts of the published loop: its numbers, its steps, and what of it goes to disk."""

import pytest
import torch
from torch import nn

from benchmark_modules import load
from clip_unlearn.methods._published_loop import DEVIATIONS, SELECTED, Adam, State
from clip_unlearn.methods.lip_paper import LipPaper

literal = load("literal_lip")


def test_the_schedule_is_the_published_one():
    assert DEVIATIONS == literal.DEVIATIONS
    for kind, first in literal.FIRST.items():
        assert SELECTED[kind]["image"] == tuple(first + more for more in literal.MORE_IMAGE)
        assert SELECTED[kind]["text"] == tuple(first + more for more in literal.MORE_TEXT[kind])
    defaults = LipPaper()
    assert (defaults.pictures, defaults.draws, defaults.epochs, defaults.stop_accuracy) == (64, 25, 30, 0.1)
    assert (defaults.learning_rate, defaults.weight_decay, defaults.decoupled) == (5e-5, 0.2, False)


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_step_of_adam_is_that_of_the_library(decoupled):
    """Also for a weight that sits out some steps: its moments and the number of its steps wait."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=generator, dtype=torch.float64)
    theirs = nn.Parameter(start.clone())
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimiser = kind([theirs], lr=0.01, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    ours, moments = start, None
    adam = Adam(learning_rate=0.01, weight_decay=0.2, decoupled=decoupled)
    for sits_out in (False, True, False, False):
        gradient = torch.randn(5, generator=generator, dtype=torch.float64)
        theirs.grad = None if sits_out else gradient
        optimiser.step()
        if not sits_out:
            ours, moments = adam.moved(ours, gradient, moments)
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-9, atol=1e-12)
    assert moments[2] == 3


def test_a_state_survives_the_disk():
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(2, 3)
    state = State(
        weights={"a.b": weight}, moments={"a.b": (weight + 1, weight + 2, 3)}, random=generator.get_state(),
        best=1 / 3, place=4, epoch=5,
    )  # fmt: skip
    back = State.of_tensors(state.as_tensors(), torch.device("cpu"))
    assert (back.best, back.place, back.epoch) == (1 / 3, 4, 5)
    assert torch.equal(back.weights["a.b"], weight)
    first, second, count = back.moments["a.b"]
    assert torch.equal(first, weight + 1)
    assert torch.equal(second, weight + 2)
    assert count == 3
    assert torch.equal(back.random, state.random)
