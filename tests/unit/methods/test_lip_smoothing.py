"""Steps on few tensors: how sensitive, which tensors, how far, against the Jacobian and a loop written out."""

import dataclasses
import math

import pytest
import torch
from lip_toys import WIDTH, random, toy

from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _smoothing
from clip_unlearn.methods._sides import Names, Pictures, embedded
from clip_unlearn.methods._smoothing import Choice, Pace, State, descended, one_round, sensitivities

IMAGE, TEXT = ("image_in", "image_out"), ("text_in", "text_out")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(model, *, holding: int = 4, batch: int = 100) -> Pictures:
    held = random(holding, 3, 2, 2, seed=31)
    return Pictures(
        moving=random(3, 3, 2, 2, seed=30),
        places=unit(random(2, 3, WIDTH, seed=32)),
        weights=torch.ones(2, 3, dtype=torch.float64),
        holding=held,
        stays=embedded(model, held),
        batch=batch,
    )


def names(model) -> Names:
    held = tuple("one " + "i" * count for count in range(1, 6))
    places = unit(random(2, WIDTH, seed=33))
    return Names(moving=("mug", "cup"), places=places, holding=held, stays=unit(model.texts(held)), near=2, batch=2)


def jacobian(model, side, name):
    """Return how the embeddings of everything held change with a weight, number by number: [n, d, numbers]."""

    def rows(weight):
        return unit(model.replace({name: weight.requires_grad_()}).images(side.holding))

    with torch.enable_grad():
        found = torch.autograd.functional.jacobian(rows, model.weights[name].detach().clone())
    return found.flatten(2)


def test_sensitivity_is_the_size_of_the_jacobian(monkeypatch):
    """Over many random directions: its Frobenius norm, of one sample in the root mean square."""
    monkeypatch.setattr(_smoothing, "PROBES", 1500)
    model = toy()
    side = pictures(model)
    found = sensitivities(model, side, IMAGE, seeded())
    for name in IMAGE:
        exact = math.sqrt(float(jacobian(model, side, name).square().sum()) / len(side.holding))
        assert found[name] == pytest.approx(exact, rel=0.05)


def test_sensitivity_is_the_formula_for_the_directions_drawn():
    model = toy()
    side, generator = pictures(model), seeded(2)
    found = sensitivities(model, side, IMAGE, seeded(2))
    squares = dict.fromkeys(IMAGE, 0.0)
    for _ in range(_smoothing.PROBES):
        order = torch.randperm(4, generator=generator)
        directions = torch.randn(4, WIDTH, generator=generator, dtype=torch.float64)
        for name in IMAGE:
            parts = jacobian(model, side, name)[order]
            pulled = sum(directions[i, k] * parts[i, k] for i in range(4) for k in range(WIDTH))
            squares[name] += float(pulled.square().sum()) / 4
    for name in IMAGE:
        assert found[name] == pytest.approx(math.sqrt(squares[name] / _smoothing.PROBES), rel=1e-6)


def test_sensitivity_knows_only_what_a_gradient_reaches():
    model = toy()
    found = sensitivities(model, pictures(model), (*IMAGE, *TEXT, "idle"), seeded())
    assert tuple(found) == IMAGE
    assert min(found.values()) > 0.01


def test_a_tensor_that_nothing_depends_on_has_a_sensitivity_above_zero():
    """Its gradient is zero as well; without a floor, 0 / 0 would spread."""
    dark = toy().replace({"image_out": torch.zeros(4, WIDTH, dtype=torch.float64)})
    found = sensitivities(dark, pictures(dark), IMAGE, seeded())
    assert found["image_in"] == pytest.approx(1e-6)


GRADIENTS = {
    "wide": torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]]),  # sum 6, mean 1
    "short": torch.tensor([-2.0, 2.0]),  # sum 4, mean 2
    "risky": torch.tensor([5.0, -5.0, 5.0]),  # sum 15, mean 5
    "even": torch.tensor([2.0, 2.0]),  # as short
}
SENSITIVITY = {"wide": 1.0, "short": 1.0, "risky": 10.0, "even": 1.0}


@pytest.mark.parametrize(
    ("rule", "count", "wanted"),
    [
        ("gain", 1, ("wide",)),
        ("gain", 3, ("wide", "even", "short")),
        ("gain", 9, ("wide", "even", "short", "risky")),
        ("mean", 1, ("risky",)),
        ("mean", 3, ("risky", "even", "short")),
        ("all", 1, ("wide", "even", "short", "risky")),
    ],
)
def test_what_is_chosen(rule, count, wanted):
    assert Choice(names=tuple(GRADIENTS), sensitivity=SENSITIVITY, rule=rule)(GRADIENTS, count) == wanted


def literal_descent(model, side, state, sensitivity, pace, generator):
    """Return weights, first and second moments after the steps, one number at a time."""
    weights, first, second = {}, {}, {}
    for name in sensitivity:
        weights[name] = state.weights.get(name, model.weights[name]).flatten().tolist()
        zeros = torch.zeros(len(weights[name]))
        first[name], second[name] = (
            moment.get(name, zeros).flatten().tolist() for moment in (state.first, state.second)
        )
    length = pace.change / math.sqrt(len(sensitivity))
    for step in range(state.steps.get(side.tower, 0) + 1, state.steps.get(side.tower, 0) + pace.steps + 1):
        leaves = {
            name: torch.tensor(numbers, dtype=torch.float64).view_as(model.weights[name]).requires_grad_()
            for name, numbers in weights.items()
        }
        draft = model.replace({**state.weights, **leaves})
        (side.moved(draft, generator) + pace.hold * side.held(draft, generator)).backward()
        for name, leaf in leaves.items():
            for place, slope in enumerate(leaf.grad.flatten().tolist()):
                first[name][place] = 0.9 * first[name][place] + 0.1 * slope
                second[name][place] = 0.99 * second[name][place] + 0.01 * slope**2
                mean, spread = first[name][place] / (1 - 0.9**step), math.sqrt(second[name][place] / (1 - 0.99**step))
                weights[name][place] -= length / sensitivity[name] * mean / spread
    return weights, first, second


@pytest.mark.parametrize(("tensors", "steps", "hold"), [(IMAGE, 1, 0.0), (IMAGE, 4, 10.0), (IMAGE[1:], 3, 2.0)])
@pytest.mark.parametrize("before", [0, 7])
def test_steps_are_those_of_the_loop(tensors, steps, hold, before):
    """From the start, and after a round that moved one tensor and not the other; batches are drawn at random."""
    model = toy()
    side, pace = pictures(model, batch=2), Pace(tensors=9, steps=steps, change=0.2, hold=hold)
    sensitivity = {name: 0.5 + place for place, name in enumerate(tensors)}
    state = State()
    if before:
        state = State(
            weights={"image_out": random(4, WIDTH, seed=42)},
            first={"image_out": 0.1 * random(4, WIDTH, seed=40)},
            second={"image_out": 0.1 * random(4, WIDTH, seed=41).abs()},
            steps={"image": before, "text": 3},
        )
    found = descended(model, state, side, sensitivity, pace, seeded(3))
    wanted = literal_descent(model, side, state, sensitivity, pace, seeded(3))
    assert found.steps == {**state.steps, "image": before + steps}
    for values, numbers in zip((found.weights, found.first, found.second), wanted, strict=True):
        assert {*tensors} <= values.keys() <= {*tensors, "image_out"}
        for name in tensors:
            assert values[name].flatten().tolist() == pytest.approx(numbers[name], rel=1e-6, abs=1e-9)
            assert not values[name].requires_grad
    assert not torch.equal(found.weights[tensors[0]], model.weights[tensors[0]])


def test_a_first_step_moves_every_number_of_a_tensor_alike():
    """Up or down by change / (S sqrt k)."""
    model = toy()
    sensitivity = {"image_in": 0.5, "image_out": 3.0}
    state = descended(
        model, State(), pictures(model), sensitivity, Pace(tensors=9, steps=1, change=0.1, hold=0.0), seeded()
    )
    for name, size in sensitivity.items():
        moved = (state.weights[name] - model.weights[name]).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, 0.1 / size / math.sqrt(2)))


def test_steps_of_that_size_in_random_directions_move_what_is_held_as_far_as_asked(monkeypatch):
    """To first order, in root mean square over signs and over what is held."""
    monkeypatch.setattr(_smoothing, "PROBES", 1000)
    model, change = toy(), 1e-4
    side = pictures(model)
    sensitivity = sensitivities(model, side, IMAGE, seeded())
    state = descended(model, State(), side, sensitivity, Pace(tensors=9, steps=1, change=change, hold=0.0), seeded())
    sizes = {name: (state.weights[name] - model.weights[name]).abs() for name in IMAGE}
    generator, squares = seeded(1), []
    for _ in range(600):
        signs = {name: torch.randint(0, 2, size.shape, generator=generator) * 2 - 1 for name, size in sizes.items()}
        edited = model.replace({name: model.weights[name] + signs[name] * size for name, size in sizes.items()})
        squares.append(float((embedded(edited, side.holding) - side.stays).square().sum(1).mean()))
    assert math.sqrt(sum(squares) / len(squares)) == pytest.approx(change, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_no_first_step_moves_what_is_held_further_than_its_signs_can_add_up(seed, monkeypatch):
    """Cauchy and Schwarz, to first order: `change` times the root of the numbers that move."""
    monkeypatch.setattr(_smoothing, "PROBES", 500)
    model, change = toy(), 1e-4
    side = pictures(model)
    sensitivity = sensitivities(model, side, IMAGE, seeded(seed))
    for tensors in (IMAGE[:1], IMAGE[1:], IMAGE):
        some = {name: sensitivity[name] for name in tensors}
        state = descended(model, State(), side, some, Pace(tensors=9, steps=1, change=change, hold=0.0), seeded(seed))
        far = (embedded(model.replace(dict(state.weights)), side.holding) - side.stays).square().sum(1).mean().sqrt()
        most = max(model.weights[name].numel() for name in tensors)
        assert 0 < float(far) <= 1.05 * change * math.sqrt(len(tensors) * most)


def test_a_step_down_lowers_what_is_moved():
    model = toy()
    side, pace = pictures(model), Pace(tensors=9, steps=5, change=0.05, hold=0.0)
    sensitivity = sensitivities(model, side, IMAGE, seeded())
    edited = model.replace(dict(descended(model, State(), side, sensitivity, pace, seeded()).weights))
    assert float(side.moved(edited, seeded())) < float(side.moved(model, seeded())) - 0.01


def test_holding_keeps_what_is_held_nearer():
    model = toy()
    side, far = pictures(model), []
    sensitivity = sensitivities(model, side, IMAGE, seeded())
    for hold in (0.0, 100.0):
        pace = Pace(tensors=9, steps=20, change=0.05, hold=hold)
        edited = model.replace(dict(descended(model, State(), side, sensitivity, pace, seeded()).weights))
        far.append(float(side.held(edited, seeded())))
    assert far[1] < 0.5 * far[0]


def test_what_the_loss_does_not_ask_for_stays():
    """No weight decay: a tensor without a gradient, or with one of zeros, keeps every bit."""
    model = toy()
    dark = model.replace({"image_out": torch.zeros_like(model.weights["image_out"])})
    pace = Pace(tensors=9, steps=3, change=0.5, hold=1.0)
    state = descended(model, State(), pictures(model), dict.fromkeys((*IMAGE, "idle"), 1.0), pace, seeded())
    assert torch.equal(state.weights["idle"], model.weights["idle"])
    state = descended(dark, State(), pictures(dark), {"image_in": 1.0}, pace, seeded())
    assert torch.equal(state.weights["image_in"], model.weights["image_in"])


def test_a_state_comes_back_from_its_tensors():
    state = State(
        weights={"a.weight": random(2, 3), "b/c": random(4, seed=1)},
        first={"a.weight": random(2, 3, seed=2)},
        second={"b/c": random(4, seed=3)},
        steps={"image": 7},
    )
    back = State.of_tensors(state.as_tensors(), torch.device("cpu"))
    for group in ("weights", "first", "second"):
        one, other = getattr(state, group), getattr(back, group)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert back.steps == {"image": 7}
    assert State().as_tensors() == {}


def choice(model, side, names) -> Choice:
    found = sensitivities(model, side, names, seeded())
    return Choice(names=tuple(found), sensitivity=found, rule="gain")


@pytest.mark.parametrize("count", [1, 2])
def test_a_round_changes_chosen_tensors_only(count):
    """So many of each side, whose first-order gain for what it risks is the largest."""
    model = toy()
    sides, pace = (pictures(model), names(model)), Pace(tensors=count, steps=2, change=0.1, hold=1.0)
    choices = [choice(model, side, own) for side, own in zip(sides, (IMAGE, TEXT), strict=True)]
    before = {name: weight.clone() for name, weight in model.weights.items()}
    tensors = one_round(model, State(), [(s, c, pace) for s, c in zip(sides, choices, strict=True)], 5)
    state = State.of_tensors(tensors, torch.device("cpu"))
    wanted = []
    for side, found in zip(sides, choices, strict=True):
        gains = {}
        for name in found.names:
            leaf = model.weights[name].detach().clone().requires_grad_()
            side.moved(model.replace({name: leaf}), seeded()).backward()
            gains[name] = float(leaf.grad.abs().sum()) / found.sensitivity[name]
        wanted += sorted(gains, key=gains.__getitem__, reverse=True)[:count]
    assert state.weights.keys() == state.first.keys() == state.second.keys() == {*wanted}
    assert state.steps == {"image": 2, "text": 2}
    assert all(not torch.equal(state.weights[name], before[name]) for name in wanted)
    assert all(torch.equal(weight, before[name]) for name, weight in model.weights.items())
    assert all(weight.grad is None and not weight.requires_grad for weight in model.weights.values())


def test_a_round_goes_on_from_the_one_before_and_repeats_by_seed():
    model = toy()
    side, pace = pictures(model, batch=2), Pace(tensors=1, steps=2, change=0.1, hold=1.0)
    turn = [(side, choice(model, side, IMAGE), pace)]
    first = State.of_tensors(one_round(model, State(), turn, 0), torch.device("cpu"))
    other = next(name for name in IMAGE if name not in first.weights)
    marked = dataclasses.replace(first, weights={**first.weights, other: model.weights[other] + 1})
    again = [one_round(model, marked, turn, 1) for _ in range(2)]
    assert again[0].keys() == again[1].keys()
    assert all(torch.equal(again[0][key], again[1][key]) for key in again[0])
    assert {key for key in again[0] if key.startswith("weights/")} == {f"weights/{name}" for name in IMAGE}
    moved = [name for name in IMAGE if not torch.equal(again[0][f"weights/{name}"], marked.weights[name])]
    assert len(moved) == 1
    differ = one_round(model, marked, turn, 2)
    assert not all(torch.equal(differ[key], again[0][key]) for key in differ)
