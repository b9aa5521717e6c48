"""What a task may add to the gradient of its loss: rivals, how they are combined, and a pull of the weights."""

import pytest
import torch
from descent_toys import apart, bytes_of, task_of

from clip_unlearn.core.descent import added, descend, gradient
from clip_unlearn.core.training import Descent

RATE = 0.05
PLAIN = Descent(steps=3, rate=RATE, optimiser="sgd", momentum=0.0, schedule="constant", clip=1e9, check_every=3)
NAME = "visual_projection.weight"


def near(step):
    """Return another loss of the same inputs, which draws noise too."""
    noise = torch.randn(4, generator=step.generator)
    return (step.forget.images * step.before_names[0]).sum(1).square().mean() + noise.sum() * 0


def drawn(step):
    return torch.randn(4, generator=step.generator).sum() * step.retain.texts.sum()


def both(step):
    return apart(step) + near(step)


def leaves_of(task):
    return {name: task.model.weights[name].detach().clone().requires_grad_() for name in task.weights}


def weights_of(found, task):
    return {name: found.model.weights[name].detach() for name in task.weights}


def check_equal(found, wanted, tolerance=1e-6):
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-4, atol=tolerance)


def test_gradients_are_added_name_by_name():
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    found = added([{"a": one, "b": one}, {"b": two, "c": two}])
    assert {name: each.tolist() for name, each in found.items()} == {"a": [1, 2], "b": [11, 22], "c": [10, 20]}
    assert one.tolist() == [1, 2]
    assert added([]) == {}


@pytest.mark.parametrize("part", [None, 3])
def test_rivals_add_up_to_the_loss_of_one_graph(tiny_clip, part):
    task, whole = task_of(tiny_clip.model, rivals=(near,)), task_of(tiny_clip.model, both)
    loss, found = gradient(task, Descent(part=part), leaves_of(task), 1)
    wanted_loss, wanted = gradient(whole, Descent(), leaves_of(whole), 1)
    assert loss == pytest.approx(wanted_loss, abs=1e-6)
    check_equal(found, wanted)


def test_losses_of_a_step_share_its_inputs(tiny_clip):
    """They are asked for once, and the second loss goes on drawing where the first one stopped."""
    task = task_of(tiny_clip.model, drawn, rivals=(drawn,))
    total, _ = gradient(task, Descent(), leaves_of(task), 2)
    assert task.feed.asked == [2]
    noise = torch.randn(8, generator=torch.Generator().manual_seed(2))
    texts = float(task.feed(2).retain.before_texts.sum())
    assert total == pytest.approx(float(noise.sum()) * texts, abs=1e-4)


def test_what_is_descended_is_what_combine_makes_of_the_gradients_in_their_order(tiny_clip):
    task = task_of(tiny_clip.model, rivals=(near, drawn))
    each = [gradient(task_of(tiny_clip.model, loss), Descent(), leaves_of(task), 0)[1] for loss in (apart, near)]
    seen = []

    def combine(slopes):
        seen.extend(slopes)
        return {NAME: slopes[0][NAME] - 3 * slopes[1][NAME]}

    task = task_of(tiny_clip.model, rivals=(near, drawn), combine=combine)
    found = descend(task, Descent(**{**PLAIN.model_dump(), "steps": 1}))
    assert len(seen) == 3
    check_equal(seen[0], each[0])
    check_equal(seen[1], each[1])
    old = tiny_clip.model.weights[NAME].detach()
    torch.testing.assert_close(
        found.model.weights[NAME].detach(), old - RATE * (each[0][NAME] - 3 * each[1][NAME]), rtol=0, atol=1e-6
    )
    others = [name for name in task.weights if name != NAME]
    assert all(torch.equal(found.model.weights[name], tiny_clip.model.weights[name]) for name in others)


@pytest.mark.parametrize("optimiser", ["adafactor", "adam", "adamw", "sgd"])
def test_a_step_without_a_gradient_is_skipped_whole(tiny_clip, optimiser):
    """Neither decay nor momentum moves a weight, and the steps after it are taken."""
    settings = {**PLAIN.model_dump(), "optimiser": optimiser, "weight_decay": 0.1, "rate": 0.01, "momentum": 0.9}
    none = descend(task_of(tiny_clip.model, combine=lambda _: {}), Descent(**settings))
    assert bytes_of(none.model) == bytes_of(tiny_clip.model)
    calls = []

    def late(slopes):
        calls.append(1)
        return {} if len(calls) == 1 else slopes[0]

    assert bytes_of(descend(task_of(tiny_clip.model, combine=late), Descent(**settings)).model) != bytes_of(none.model)
    assert len(calls) == 3


@pytest.mark.parametrize("clip", [1e9, 0.3])
def test_a_pull_is_added_at_every_step_to_the_gradient_before_it_is_clipped(tiny_clip, clip):
    def pull(weights):
        return {name: 2 * weight for name, weight in weights.items()}

    task = task_of(tiny_clip.model, pull=pull)
    leaves, bare = leaves_of(task), task_of(tiny_clip.model)
    for number in range(3):
        _, slope = gradient(bare, Descent(), leaves, number)
        whole = {name: slope[name] + 2 * leaf.detach() for name, leaf in leaves.items()}
        norm = float(torch.stack([one.square().sum() for one in whole.values()]).sum().sqrt())
        shorter = min(1.0, clip / norm)
        leaves = {
            name: (leaf.detach() - RATE * shorter * whole[name]).requires_grad_() for name, leaf in leaves.items()
        }
    found = weights_of(descend(task, Descent(**{**PLAIN.model_dump(), "clip": clip})), task)
    check_equal(found, {name: leaf.detach() for name, leaf in leaves.items()}, 1e-5)


def test_a_pull_has_no_graph_and_reaches_weights_that_the_losses_do_not(tiny_clip):
    graphs = []

    def pull(weights):
        moved = {name: 2 * weight for name, weight in weights.items()}
        graphs.extend(one.requires_grad for one in moved.values())
        return moved

    task = task_of(tiny_clip.model, combine=lambda _: {}, pull=pull)
    leaves = leaves_of(task)
    _, found = gradient(task, Descent(), leaves, 0)
    check_equal(found, {name: 2 * leaf.detach() for name, leaf in leaves.items()})
    assert not any(graphs)


def test_what_is_masked_is_not_pulled(tiny_clip):
    mask = torch.rand(tiny_clip.model.weights[NAME].shape, generator=torch.Generator().manual_seed(1)) < 0.5
    task = task_of(tiny_clip.model, masks={NAME: mask}, pull=lambda weights: {NAME: torch.ones_like(weights[NAME])})
    changed = descend(task, PLAIN).model.weights[NAME] != tiny_clip.model.weights[NAME]
    assert torch.equal(changed, mask)


@pytest.mark.parametrize(
    "fields",
    [
        {"rivals": (lambda step: near(step) * torch.nan,)},
        {"rivals": (lambda step: near(step) + (0 * near(step)).sqrt(),), "combine": lambda slopes: slopes[0]},
        {"pull": lambda weights: {NAME: torch.full_like(weights[NAME], torch.inf)}},
    ],
)
def test_what_is_added_is_checked_too(tiny_clip, fields):
    task = task_of(tiny_clip.model, **fields)
    with pytest.raises(FloatingPointError, match="no number at step 0"):
        gradient(task, Descent(), leaves_of(task), 0)
