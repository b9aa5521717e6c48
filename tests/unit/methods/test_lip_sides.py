"""What is moved and what is held, against sums written out one sample at a time."""

import math

import pytest
import torch
from lip_toys import WIDTH, Counter, changed, random, toy

from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _sides
from clip_unlearn.methods._sides import Names, Pictures, embedded

DRAWS, MOVING, HOLDING = 2, 5, 7
SENTENCES = tuple("a photo of number " + "i" * count for count in range(1, 12))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(model, *, holding: int = HOLDING, batch: int = 100) -> Pictures:
    held = random(holding, 3, 2, 2, seed=21)
    return Pictures(
        moving=random(MOVING, 3, 2, 2, seed=20),
        places=unit(random(DRAWS, MOVING, WIDTH, seed=22)),
        weights=random(DRAWS, MOVING, seed=23).abs() + 0.1,
        holding=held,
        stays=embedded(model, held) if holding else torch.zeros(0, WIDTH, dtype=torch.float64),
        batch=batch,
    )


def names(model, *, holding: int = 8, near: int = 2, batch: int = 100) -> Names:
    held = SENTENCES[3 : 3 + holding]
    stays = unit(model.texts(held)) if holding else torch.zeros(0, WIDTH, dtype=torch.float64)
    return Names(
        moving=SENTENCES[:3], places=unit(random(3, WIDTH, seed=24)), holding=held, stays=stays, near=near, batch=batch
    )


def row(vector) -> list[float]:
    """Return a vector at length 1, number by number."""
    numbers = vector.reshape(-1).tolist()
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def distance(first: list[float], second: list[float]) -> float:
    return math.sqrt(sum((one - other) ** 2 for one, other in zip(first, second, strict=True)))


def chosen(count: int, batch: int, seed: int) -> list[int]:
    """Return what a step looks at: the first of the generator's order."""
    return torch.randperm(count, generator=seeded(seed))[:batch].tolist()


@pytest.mark.parametrize("batch", [1, 3, MOVING, 100])
def test_pictures_are_drawn_to_their_copies(batch):
    model = toy()
    draft, side = changed(model), pictures(model, batch=batch)
    some, total = chosen(MOVING, batch, 4), 0.0
    for draw in range(DRAWS):
        for place in some:
            here = row(draft.images(side.moving[place : place + 1]))
            total += float(side.weights[draw, place]) * distance(here, side.places[draw, place].tolist())
    wanted = total / (DRAWS * len(some)) / 2
    assert wanted > 0.1
    assert float(side.moved(draft, seeded(4))) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("batch", [1, 4, HOLDING, 100])
def test_pictures_are_held_where_they_were(batch):
    model = toy()
    draft, side = changed(model), pictures(model, batch=batch)
    some, total = chosen(HOLDING, batch, 5), 0.0
    for place in some:
        pixels = side.holding[place : place + 1]
        total += distance(row(draft.images(pixels)), row(model.images(pixels))) ** 2
    assert total > 0.01
    assert float(side.held(draft, seeded(5))) == pytest.approx(total / len(some), rel=1e-9)
    assert float(side.held(model, seeded(5))) == pytest.approx(0, abs=1e-24)


def test_names_go_to_their_places():
    model = toy()
    draft, side = changed(model), names(model)
    total = sum(
        distance(row(draft.texts([sentence])), place.tolist())
        for sentence, place in zip(side.moving, side.places, strict=True)
    )
    assert total > 0.1
    assert float(side.moved(draft, seeded())) == pytest.approx(total / 3 / 2, rel=1e-9)


@pytest.mark.parametrize(("near", "batch"), [(0, 3), (2, 0), (2, 3), (2, 100), (8, 3), (50, 3)])
def test_the_nearest_names_and_some_of_the_others_are_held(near, batch):
    model = toy()
    draft, side = changed(model), names(model, near=near, batch=batch)
    first = min(near, 8)
    some = [*range(first), *(first + place for place in chosen(8 - first, batch, 6))]
    assert len(some) == min(8, first + batch)
    total = sum(
        distance(row(draft.texts([side.holding[place]])), row(model.texts([side.holding[place]]))) ** 2
        for place in some
    )
    assert float(side.held(draft, seeded(6))) == pytest.approx(total / len(some), rel=1e-9)
    wanted = [row(draft.texts([side.holding[place]])) for place in some]
    assert side.sample(draft, seeded(6)).tolist() == [pytest.approx(each) for each in wanted]


def test_others_are_drawn_anew_each_time():
    model = toy()
    side, generator = names(model, near=2, batch=3), seeded()
    drawn = [tuple(side._some(generator)) for _ in range(20)]
    assert {each[:2] for each in drawn} == {(0, 1)}
    assert {place for each in drawn for place in each[2:]} == set(range(2, 8))
    assert all(len(set(each)) == 5 for each in drawn)


@pytest.mark.parametrize(
    ("holding", "batch", "wanted"), [(HOLDING, 3, 3), (HOLDING, 100, HOLDING), (0, 3, 3), (0, 9, 5)]
)
def test_samples_of_pictures_are_held_ones_or_else_moved_ones(holding, batch, wanted):
    model = toy()
    side = pictures(model, holding=holding, batch=batch)
    pixels = side.holding if holding else side.moving
    rows = side.sample(model, seeded(7))
    expected = [row(model.images(pixels[place : place + 1])) for place in chosen(len(pixels), batch, 7)]
    assert rows.tolist() == [pytest.approx(each) for each in expected]
    assert len(rows) == wanted


def test_nothing_to_hold_costs_nothing():
    model = toy()
    sides = pictures(model, holding=0), names(model, holding=0)
    for side in sides:
        assert side.held(changed(model), seeded()).tolist() == 0
    expected = [row(model.texts([sentence])) for sentence in sides[1].moving]
    assert sides[1].sample(model, seeded()).tolist() == [pytest.approx(each) for each in expected]


def test_a_step_looks_at_a_batch_and_no_more():
    """Sentences to move are few and go in one batch; copies of pictures are never looked at again."""
    counter = Counter()
    model = toy(counter)
    sides = pictures(model, batch=3), names(model, near=2, batch=3)
    counter.images.clear(), counter.texts.clear()
    for side in sides:
        side.moved(model, seeded()), side.held(model, seeded()), side.sample(model, seeded())
    assert counter.images == [3, 3, 3]
    assert counter.texts == [3, 5, 5]


def test_towers():
    model = toy()
    assert (pictures(model).tower, names(model).tower) == ("image", "text")


def test_embeddings_come_in_batches_and_without_gradients(monkeypatch):
    monkeypatch.setattr(_sides, "BATCH", 3)
    counter = Counter()
    model, pixels = toy(counter), random(7, 3, 2, 2)
    leaf = model.weights["image_out"].detach().clone().requires_grad_()
    rows = embedded(model.replace({"image_out": leaf}), pixels)
    assert counter.images == [3, 3, 1]
    assert not rows.requires_grad
    torch.testing.assert_close(rows, unit(model.images(pixels)))
