"""The training loop: what it changes and what not, which state it chooses, and how it gets over trouble."""

import dataclasses
import math
import weakref

import pytest
import torch
from descent_toys import Looks, apart, bytes_of, marked, task_of, watched
from torch import Tensor

from clip_unlearn.core.descent import descend, gradient, trained_weights
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.training import Descent
from clip_unlearn.errors import DivergedError, StorageError

PLAIN = Descent(steps=5, rate=0.02, optimiser="sgd", momentum=0.0, schedule="constant", check_every=2)


def literal(task, rates, *, momentum=0.0, decay=0.0, clip=1.0):
    """Descend by hand: gradients of one graph, one global norm, velocity, step."""
    model = task.model
    leaves = {name: model.weights[name].detach().float().clone().requires_grad_() for name in task.weights}
    speed = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for number, rate in enumerate(rates):
        _, found = gradient(task, Descent(), leaves, number)
        norm = math.sqrt(sum(float((each**2).sum()) for each in found.values()))
        for name, each in found.items():
            each = each * min(1.0, clip / norm) + decay * leaves[name].detach()
            speed[name] = momentum * speed[name] + each
            leaves[name] = (leaves[name].detach() - rate * speed[name]).requires_grad_()
    return {name: leaf.detach() for name, leaf in leaves.items()}


def check_weights(model, wanted, *, tolerance=1e-5):
    for name, weight in wanted.items():
        torch.testing.assert_close(model.weights[name].detach(), weight, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("clip", [0.5, 100.0])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.05)])
def test_the_loop_by_hand(tiny_clip, clip, momentum, decay):
    task = task_of(tiny_clip.model)
    settings = Descent(
        steps=7, rate=0.05, optimiser="sgd", momentum=momentum, weight_decay=decay, clip=clip, check_every=3
    )
    found = descend(task, settings)
    rates = [0.05 * (1 + math.cos(math.pi * number / 7)) / 2 for number in range(7)]
    wanted = literal(task, rates, momentum=momentum, decay=decay, clip=clip)
    check_weights(found.model, wanted)
    assert found.marks == ()
    assert not found.halved
    assert task.feed.asked[:7] == list(range(7)), "looks between steps do not repeat or skip any"


@pytest.mark.parametrize(("name", "rate"), [("adafactor", 0.01), ("adam", 0.005), ("adamw", 0.005), ("sgd", 0.05)])
def test_the_loss_falls_and_the_model_stays(tiny_clip, name, rate):
    before, task = bytes_of(tiny_clip.model), task_of(tiny_clip.model)
    found = descend(task, Descent(steps=12, optimiser=name, rate=rate, check_every=5))
    for number in range(2):
        old, new = (loss_of(task, model, number) for model in (tiny_clip.model, found.model))
        assert new < old - 0.05
    assert bytes_of(tiny_clip.model) == before
    changed = {name for name, weight in found.model.weights.items() if weight is not tiny_clip.model.weights[name]}
    assert changed == set(task.weights)
    assert not any(found.model.weights[name].requires_grad for name in changed)


def loss_of(task, model, number):
    weights = {name: model.weights[name].detach().clone().requires_grad_() for name in task.weights}
    return gradient(task, Descent(), weights, number)[0]


def test_same_task_same_bytes(tiny_clip):
    first, second = (descend(task_of(tiny_clip.model), Descent(steps=3)).model for _ in range(2))
    assert bytes_of(first) == bytes_of(second) != bytes_of(tiny_clip.model)


@pytest.mark.parametrize("part", [1, 3])
def test_parts_change_rounding_alone(tiny_clip, part):
    settings = PLAIN.model_dump()
    whole = descend(task_of(tiny_clip.model), Descent(**settings)).model
    parts = descend(task_of(tiny_clip.model), Descent(**{**settings, "part": part})).model
    check_weights(parts, {name: whole.weights[name].detach() for name in whole.weights})


# Which state


def test_the_best_state_is_taken(tiny_clip):
    looks = Looks(*map(marked, (9, 7, 3, 6, 3, 8)))
    found = descend(task_of(tiny_clip.model, examine=looks), Descent(steps=10, check_every=2))
    assert len(looks.seen) == 6
    assert found.best == 2, "of equal marks the earliest"
    assert found.marks == looks.marks
    assert bytes_of(found.model) == bytes_of(looks.seen[2]) != bytes_of(looks.seen[4])


def test_equal_shares_are_told_apart_by_probability(tiny_clip):
    looks = Looks(marked(3, 0.5), marked(3, 0.4), marked(3, 0.45), marked(3, 0.4))
    found = descend(task_of(tiny_clip.model, examine=looks), Descent(steps=3, check_every=1))
    assert found.best == 1


def test_where_nothing_is_better_the_model_is_the_one_given(tiny_clip):
    looks = Looks(*map(marked, (3, 5, 3, 9)))
    found = descend(task_of(tiny_clip.model, examine=looks), Descent(steps=3, check_every=1))
    assert found.best == 0
    assert all(found.model.weights[name] is weight for name, weight in tiny_clip.model.weights.items())


def test_without_looks_the_last_state_is_taken(tiny_clip):
    task, looks = task_of(tiny_clip.model), Looks(*map(marked, (9, 1, 5, 5)))
    found = descend(dataclasses.replace(task, examine=None), PLAIN)
    descend(dataclasses.replace(task, examine=looks), PLAIN)
    assert bytes_of(found.model) == bytes_of(looks.seen[-1])
    assert (found.marks, found.best) == ((), 0)


@pytest.mark.parametrize(
    ("marks", "patience", "looks"),
    [((5,), 1, 2), ((5,), 3, 4), ((5, 4, 4, 4, 3, 3, 3, 3), 3, 8), ((9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0), 1, 11)],
)
def test_training_ends_when_looks_bring_nothing_new(tiny_clip, marks, patience, looks):
    examine, task = Looks(*map(marked, marks)), task_of(tiny_clip.model)
    settings = Descent(steps=20, check_every=2, patience=patience, rate=1e-4)
    descend(dataclasses.replace(task, examine=examine), settings)
    assert len(examine.seen) == looks
    assert task.feed.asked == list(range(2 * (looks - 1)))


def test_steps_may_end_between_two_looks(tiny_clip):
    examine, told = Looks(marked(5), marked(4), marked(3)), []
    task = task_of(tiny_clip.model, examine=examine)
    with reporting(lambda *each: told.append(each)):
        found = descend(task, Descent(steps=5, check_every=4))
    assert task.feed.asked == list(range(5))
    assert (len(found.marks), found.best) == (3, 2)
    assert told == [("forget", 0, 5), ("forget", 4, 5), ("forget", 5, 5)]


# What is trained


@pytest.mark.parametrize("name", ["adafactor", "adam", "adamw", "sgd"])
def test_masked_entries_stay_bit_for_bit(tiny_clip, name):
    """Weight decay and momentum leak through a mask of the gradient alone."""
    weights = trained_weights(tiny_clip.model, "both")
    generator = torch.Generator().manual_seed(3)
    masks = {one: (torch.rand(tiny_clip.model.weights[one].shape, generator=generator) < 0.5) for one in weights[::2]}
    masks = {one: mask.float() if place % 2 else mask for place, (one, mask) in enumerate(masks.items())}
    settings = Descent(steps=4, check_every=2, optimiser=name, rate=0.01, weight_decay=0.1)
    found = descend(task_of(tiny_clip.model, masks=masks), settings).model
    for one in weights:
        old, new = tiny_clip.model.weights[one].detach(), found.weights[one]
        mask = masks.get(one, torch.ones(old.shape)).bool()
        assert torch.equal(new[~mask], old[~mask])
        assert mask.sum() == 0 or not torch.equal(new[mask], old[mask])


def test_what_is_masked_does_not_count_in_the_norm(tiny_clip):
    weights = trained_weights(tiny_clip.model, "both")
    masks = {name: torch.zeros(tiny_clip.model.weights[name].shape) for name in weights[1:]}
    settings = Descent(**{**PLAIN.model_dump(), "steps": 1, "clip": 1e-3})
    found = descend(task_of(tiny_clip.model, masks=masks), settings).model
    moved = found.weights[weights[0]] - tiny_clip.model.weights[weights[0]].detach()
    assert float(moved.norm()) == pytest.approx(0.02 * 1e-3, rel=1e-2)


@pytest.mark.parametrize("part", [None, 2])
@pytest.mark.parametrize(("tower", "other"), [("image", "text"), ("text", "image")])
def test_a_tower_that_is_not_trained_is_not_run(tiny_clip, tower, other, part):
    """Nor changed: also where its weights are among those that may change, decay does not reach them."""
    passes = []
    model = watched(tiny_clip.model, lambda name, _: passes.append(name))
    task = task_of(model)
    passes.clear()

    def loss(step):
        assert step.names.requires_grad == (tower == "text")
        return apart(step) + (step.names @ step.forget.images.T).mean()

    settings = Descent(steps=2, towers=tower, optimiser="adamw", weight_decay=0.5, part=part)
    found = descend(dataclasses.replace(task, loss=loss), settings).model
    assert set(passes) == {tower}
    own, rest = trained_weights(tiny_clip.model, tower), set(trained_weights(tiny_clip.model, other))
    for name, weight in tiny_clip.model.weights.items():
        assert torch.equal(found.weights[name], weight) == (name not in own)
    assert rest
    with torch.no_grad():
        assert bytes_of(found.replace({name: found.weights[name] for name in rest})) == bytes_of(found)


def test_trained_weights_are_those_a_gradient_reaches(tiny):
    image, text, both = (trained_weights(tiny.model, towers) for towers in ("image", "text", "both"))
    assert set(image).isdisjoint(text)
    assert set(both) == {*image, *text}
    assert list(both) == [name for name in tiny.model.weights if name in both]
    assert tiny.model.adapter.logit_scale not in both
    pixels = torch.randn(1, 3, 32, 32)
    parameters = {name: each for name, each in tiny.model.weights.items() if isinstance(each, torch.nn.Parameter)}
    for towers, embed in (
        ("image", lambda model: model.images(pixels)),
        ("text", lambda model: model.texts(["a cat"])),
    ):
        leaves = {name: weight.detach().clone().requires_grad_() for name, weight in parameters.items()}
        found = torch.autograd.grad(embed(tiny.model.replace(leaves)).sum(), list(leaves.values()), allow_unused=True)
        reached = {name for name, each in zip(leaves, found, strict=True) if each is not None}
        assert {"image": set(image), "text": set(text)}[towers] == reached


def in_format(model, kind):
    return model.replace(
        {name: weight.detach().to(kind) for name, weight in model.weights.items() if weight.is_floating_point()}
    )


def swapped(step):
    """Return a loss that tears the forgotten pictures from their place."""
    return (step.forget.images * step.forget.before_texts.roll(1, 0)).sum(1).mean() + 0 * step.forget.texts.sum()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_trained_in_float32(tiny_clip, kind):
    """Steps too small for the number format add up to one that is not."""
    coarse = in_format(tiny_clip.model, kind)
    fine = in_format(coarse, torch.float32)
    found = {}
    for name, model, steps in (("one", coarse, 1), ("many", coarse, 12), ("wanted", fine, 12)):
        task = dataclasses.replace(task_of(model, swapped), feed=task_of(fine).feed)
        settings = Descent(steps=steps, optimiser="sgd", rate=3e-4, momentum=0.0, schedule="constant")
        found[name] = descend(task, settings).model
    assert all(weight.dtype == coarse.weights[name].dtype for name, weight in found["many"].weights.items())
    moved = {
        which: sum(int((found[which].weights[name] != weight).sum()) for name, weight in coarse.weights.items())
        for which in ("one", "many")
    }
    assert moved["many"] > 1.2 * moved["one"]
    for name in trained_weights(tiny_clip.model, "image"):
        wanted = found["wanted"].weights[name].to(kind)
        torch.testing.assert_close(found["many"].weights[name], wanted, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("towers", ["both", "image", "text"])
def test_half_precision_of_every_family(tiny, towers):
    """What is trained in float32 stands beside weights that are not; looks are of what is shipped."""
    model, looks = in_format(tiny.model, torch.float16), Looks(*map(marked, (5, 4)))
    task = task_of(model, towers=towers, examine=looks)
    task = dataclasses.replace(task, feed=task_of(tiny.model).feed)
    found = descend(task, Descent(steps=1, towers=towers, optimiser="sgd", rate=0.1)).model
    changed = {name for name, weight in found.weights.items() if not torch.equal(weight, model.weights[name])}
    assert changed
    assert changed <= set(task.weights)
    assert bytes_of(looks.seen[1]) == bytes_of(found)


# Trouble


class Spoilt:
    """A loss that is no number, or has a gradient that is none, at some calls."""

    def __init__(self, *calls: int, gradient_alone: bool = False) -> None:
        self.calls, self.count, self.gradient_alone = calls, 0, gradient_alone

    def __call__(self, step) -> Tensor:
        self.count += 1
        loss = apart(step)
        if self.count - 1 not in self.calls:
            return loss
        return loss + (0 * loss).sqrt() if self.gradient_alone else loss * torch.nan


@pytest.mark.parametrize("gradient_alone", [False, True])
@pytest.mark.parametrize(("call", "asked"), [(0, [0, 0, 1, 2, 3, 4]), (3, [0, 1, 2, 3, 2, 3, 4])])
def test_no_number_once_is_undone_and_tried_with_half_the_rate(tiny_clip, call, asked, gradient_alone):
    task = task_of(tiny_clip.model, Spoilt(call, gradient_alone=gradient_alone))
    found = descend(task, PLAIN)
    assert task.feed.asked == asked
    assert found.halved
    full = call // 2 * 2
    check_weights(found.model, literal(task_of(tiny_clip.model), [0.02] * full + [0.01] * (5 - full)))


@pytest.mark.parametrize("calls", [(1, 2), (1, 5), (0, 5)])
def test_no_number_twice_is_an_error(tiny_clip, calls):
    with pytest.raises(DivergedError, match=r"halved once. Give a smaller rate, for example .*descent.rate=0.002\b"):
        descend(task_of(tiny_clip.model, Spoilt(*calls)), PLAIN)


@pytest.mark.parametrize(("kind", "room"), [(torch.OutOfMemoryError, 3), (torch.OutOfMemoryError, 1), (MemoryError, 2)])
def test_short_memory_takes_smaller_parts(tiny_clip, kind, room):
    sizes = []

    def note(_, size):
        sizes.append(size)
        if size > room:
            raise kind("no room")

    small = task_of(tiny_clip.model)
    small = dataclasses.replace(small, model=watched(tiny_clip.model, note))
    settings = Descent(**{**PLAIN.model_dump(), "forget_batch": 4, "retain_batch": 4})
    found = descend(small, settings)
    check_weights(found.model, literal(task_of(tiny_clip.model), [0.02] * 5))
    assert max(sizes) == 4
    assert sum(size <= room for size in sizes) > 0
    assert not found.halved


def test_parts_stay_small_once_they_had_to(tiny_clip):
    """Not every look begins with running out of memory again."""
    refused = []

    def note(_, size):
        if size > 1:
            refused.append(size)
            raise MemoryError

    task = dataclasses.replace(task_of(tiny_clip.model), model=watched(tiny_clip.model, note))
    descend(task, Descent(**{**PLAIN.model_dump(), "forget_batch": 4, "retain_batch": 4}))
    assert refused == [4, 2]


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_no_memory_at_all_is_an_error(tiny_clip, kind):
    parts = []

    def loss(step):
        parts.append(step.embedder._part)
        raise kind("no room")

    settings = Descent(forget_batch=4, retain_batch=9)
    with pytest.raises(StorageError, match="Memory does not hold the pass of a single image. Use another device."):
        descend(task_of(tiny_clip.model, loss), settings)
    assert parts == [None, 4, 2, 1]


def test_what_filled_memory_is_let_go_before_the_next_try(tiny_clip):
    """An error that is being handled holds on to all that the failed pass made."""
    made = []

    def loss(step):
        assert all(one() is None for one in made), "the pass before is still in memory"
        large = step.forget.images
        made.append(weakref.ref(large))
        raise MemoryError

    with pytest.raises(StorageError):
        descend(task_of(tiny_clip.model, loss), Descent(forget_batch=4, retain_batch=4))
    assert len(made) == 3
