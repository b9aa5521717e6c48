"""Changes of the last layer: the one-solve form against dense least squares, and the training against its formula."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.readout import Training, solve_readout, train_readout
from clip_unlearn.maths.ridge import ridge_edit

FEATURES, EMBEDDING = 9, 5
seeds = st.integers(0, 10_000)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def texts(seed: int, *, moved: int = 3, held: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return draw(seed, moved, FEATURES), draw(seed + 1, moved, EMBEDDING), draw(seed + 2, held, FEATURES)


def whole(change: LowRank) -> Tensor:
    return change.left @ change.right


def dense_least_squares(features: Tensor, steps: Tensor, held: Tensor, forget: float, retain: float) -> Tensor:
    """Return the minimiser of ||C||^2 + forget ||F C - S||^2 + retain ||H C||^2 as one tall least-squares problem."""
    rows = torch.cat([torch.eye(FEATURES).double(), forget**0.5 * features, retain**0.5 * held])
    goals = torch.cat(
        [torch.zeros(FEATURES, EMBEDDING).double(), forget**0.5 * steps, torch.zeros(len(held), EMBEDDING).double()]
    )
    return torch.linalg.lstsq(rows, goals).solution


@given(
    seed=seeds,
    moved=st.integers(1, 4),
    held=st.integers(0, 20),
    forget=st.sampled_from([0.1, 1.0, 100.0]),
    retain=st.sampled_from([0.0, 1.0, 30.0]),
)
def test_one_solve_is_the_dense_least_squares_solution(seed, moved, held, forget, retain):
    rows, steps, kept = texts(seed, moved=moved, held=held)
    change = solve_readout(rows, steps, kept, forget_weight=forget, retain_weight=retain)
    assert change.left.shape == (FEATURES, moved)
    wanted = dense_least_squares(rows, steps, kept, forget, retain)
    torch.testing.assert_close(whole(change), wanted, rtol=1e-9, atol=1e-9)


def test_every_held_text_can_weigh_its_own():
    rows, steps, kept = texts(14, held=3)
    weights = torch.tensor([2.0, 0.0, 9.0], dtype=torch.float64)
    change = solve_readout(rows, steps, kept, forget_weight=5.0, retain_weight=weights)
    wanted = dense_least_squares(rows, steps, weights.sqrt().unsqueeze(1) * kept, 5.0, 1.0)
    torch.testing.assert_close(whole(change), wanted, rtol=1e-9, atol=1e-9)


def test_an_infinite_weight_reaches_the_goal_exactly_and_with_the_smallest_change():
    rows, steps, kept = texts(1)
    change = whole(solve_readout(rows, steps, kept, forget_weight=math.inf, retain_weight=0.0))
    torch.testing.assert_close(rows @ change, steps, rtol=0, atol=1e-10)
    torch.testing.assert_close(change, torch.linalg.pinv(rows) @ steps, rtol=0, atol=1e-10)


def test_a_large_retain_weight_holds_what_is_held():
    rows, steps, kept = texts(2)
    change = whole(solve_readout(rows, steps, kept, forget_weight=math.inf, retain_weight=1e9))
    torch.testing.assert_close(rows @ change, steps, rtol=0, atol=1e-6)
    assert (kept @ change).abs().max() < 1e-6
    free = whole(solve_readout(rows, steps, kept, forget_weight=math.inf, retain_weight=0.0))
    assert (kept @ free).abs().max() > 0.1


@pytest.mark.parametrize("forget", [5.0, math.inf])
def test_a_sentence_that_stands_twice_counts_once(forget):
    rows, steps, kept = texts(3)
    once = solve_readout(rows, steps, kept, forget_weight=forget, retain_weight=2.0)
    twice = solve_readout(
        torch.cat([rows, rows[1:2]]),
        torch.cat([steps, steps[1:2]]),
        kept,
        forget_weight=forget,
        retain_weight=2.0,
    )
    assert twice.left.shape == once.left.shape
    torch.testing.assert_close(whole(twice), whole(once), rtol=0, atol=1e-10)


def test_without_a_layer_in_between_it_is_the_ridge_edit_of_embeddings():
    rows, goals, kept = draw(4, 2, FEATURES), draw(5, 2, FEATURES), draw(6, 5, FEATURES)
    change = solve_readout(rows, goals - rows, kept, forget_weight=7.0, retain_weight=3.0)
    edit = ridge_edit(rows, goals, kept, forget_weight=7.0, retain_weight=3.0)
    torch.testing.assert_close(torch.eye(FEATURES) + whole(change), edit.dense().T, rtol=0, atol=1e-10)


def training(**changes: float) -> Training:
    settings = {"rank": 2, "steps": 300, "learning_rate": 0.02} | changes
    weights = {"forget_weight": 2.0, "retain_weight": 0.3, "change_weight": 0.1} | changes
    return Training(**{**weights, **settings})


def trained(seed: int, settings: Training, told: list[int] | None = None) -> LowRank:
    steps = told if told is not None else []
    return train_readout(*texts(seed), settings, torch.Generator().manual_seed(seed), steps.append)


def loss_of(change: Tensor, seed: int, settings: Training) -> float:
    """Return the published loss of a change A B / r, written out in sums."""
    rows, ways, kept = texts(seed)
    forget = sum(float(number) ** 2 for number in (ways - rows @ change).flatten()) ** 0.5
    retain = sum(float(number) ** 2 for number in (kept @ change).flatten()) ** 0.5
    size = settings.rank * sum(float(number) ** 2 for number in change.flatten()) ** 0.5
    return settings.forget_weight * forget + settings.retain_weight * retain + settings.change_weight * size


def test_training_lowers_the_published_loss():
    settings = training()
    nothing = loss_of(torch.zeros(FEATURES, EMBEDDING).double(), 7, settings)
    change = trained(7, settings)
    assert change.left.shape == (FEATURES, 2)
    assert loss_of(whole(change), 7, settings) < 0.9 * nothing


def test_the_first_step_follows_the_sign_of_the_slope():
    """Adam's first step has the learning rate's length in every number; A has no slope while B is 0."""
    settings = training(steps=1, learning_rate=1e-4, retain_weight=0.0, change_weight=0.0)
    change = trained(8, settings)
    start = (2 * torch.rand(FEATURES, 2, generator=torch.Generator().manual_seed(8), dtype=torch.float64) - 1) / 3
    torch.testing.assert_close(change.left, start, rtol=0, atol=1e-12)
    slopes = torch.zeros(2, EMBEDDING).double()
    for place in [(row, column) for row in range(2) for column in range(EMBEDDING)]:
        moved = torch.zeros(2, EMBEDDING).double()
        moved[place] = 1e-6
        slopes[place] = loss_of(start @ moved / 2, 8, settings) - loss_of(-start @ moved / 2, 8, settings)
    torch.testing.assert_close(change.right * 2, -1e-4 * slopes.sign(), rtol=1e-5, atol=0)


def test_every_step_is_one_of_adam_on_the_published_loss():
    settings = training(steps=25)
    rows, ways, kept = texts(13)
    left = (2 * torch.rand(FEATURES, 2, generator=torch.Generator().manual_seed(13), dtype=torch.float64) - 1) / 3
    right = torch.zeros(2, EMBEDDING, dtype=torch.float64)
    means = [torch.zeros_like(left), torch.zeros_like(right)]
    squares = [torch.zeros_like(left), torch.zeros_like(right)]
    for step in range(1, 26):
        change = left @ right / 2
        rest, stray = ways - rows @ change, kept @ change
        # The slope of a norm ||X|| along X is X / ||X||, and 0 is taken at 0.
        slope = 0.3 * kept.T @ stray / stray.norm().clamp_min(1e-300) - 2.0 * rows.T @ rest / rest.norm()
        slope += 0.1 * 2 * change / change.norm().clamp_min(1e-300)
        for place, own in enumerate((slope @ right.T / 2, left.T @ slope / 2)):
            means[place] = 0.9 * means[place] + 0.1 * own
            squares[place] = 0.999 * squares[place] + 0.001 * own.square()
        for factor, mean, square in zip((left, right), means, squares, strict=True):
            factor -= 0.02 * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    assert loss_of(left @ right / 2, 13, settings) < loss_of(torch.zeros(FEATURES, EMBEDDING).double(), 13, settings)
    torch.testing.assert_close(whole(trained(13, settings)), left @ right / 2, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("learning_rate", [0.02, 3.0])
def test_the_best_state_is_kept(learning_rate):
    """With a wild learning rate the last state is worse than many before it; none may be better than what is kept."""
    losses = []
    for steps in range(0, 40, 3):
        settings = training(steps=steps, learning_rate=learning_rate)
        losses.append(loss_of(whole(trained(9, settings)), 9, settings))
    assert losses == sorted(losses, reverse=True)


def test_where_nothing_is_gained_nothing_is_changed():
    change = trained(10, training(forget_weight=0.0))
    assert torch.equal(whole(change), torch.zeros(FEATURES, EMBEDDING).double())


def test_training_is_the_same_each_time_and_tells_its_steps():
    told: list[int] = []
    first, second = trained(11, training(steps=4), told), trained(11, training(steps=4))
    assert torch.equal(first.left, second.left)
    assert torch.equal(first.right, second.right)
    assert told == [0, 1, 2, 3, 4]


def test_training_works_where_gradients_are_off():
    with torch.no_grad():
        change = trained(12, training(steps=5))
    assert whole(change).abs().max() > 0
    assert not change.left.requires_grad
