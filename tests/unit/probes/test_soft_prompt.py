"""Names learned again as vectors, of models of which is known what they hold."""

from functools import cache
from typing import Any

import pytest
import torch
from known import DATA, REQUEST, SUPPORT, original, readings, value

from clip_unlearn.core.config import build
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.answers import class_texts
from clip_unlearn.errors import SettingError, UndefinedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.probes.audit._slots import find_slots
from clip_unlearn.probes.audit.soft_prompt import SoftPrompt, _Lesson
from clip_unlearn.probes.evaluate.zero_shot import ZeroShot

SOFT = SoftPrompt(data=DATA, support=SUPPORT, tokens=(1,), draws=2, starts=1, steps=30)
FIVE = "5-shot soft prompt accuracy"


@cache
def nameless() -> Model:
    """Return the model after an edit of its last text layer, whose images are as they were."""
    return Redirect(side="text").forget(original(), REQUEST).folded(original()).apply(original())


def test_a_hidden_name_is_found_again() -> None:
    edited = nameless()
    assert value(ZeroShot(data=DATA).measure(original(), edited, REQUEST), "forget accuracy", "after") < 0.1
    found = SOFT.measure(original(), edited, REQUEST)
    assert value(found, FIVE, "before") > 0.9
    assert value(found, FIVE, "after") > 0.9
    assert {one.name for one in found} == {"1-shot soft prompt accuracy", FIVE}


def test_images_that_no_longer_lie_together_are_not() -> None:
    flat = torch.randn(64, generator=torch.Generator().manual_seed(0))
    gone = AffineMap(down=torch.eye(64), up=-torch.eye(64), offset=flat)
    edited = original().replace(outputs={"image": gone})  # every image at one place
    assert value(SOFT.measure(original(), edited, REQUEST), FIVE, "after") <= 0.5


def test_a_model_that_never_saw_it_learns_less() -> None:
    found = readings(SOFT, "ignorant")
    assert value(found, FIVE, "after") < value(found, FIVE, "before") - 0.1


def test_the_weights_get_no_gradient_and_the_model_no_hook() -> None:
    model = original()
    before = model.fingerprint
    SoftPrompt(data=DATA, support=SUPPORT, shots=(1,), tokens=(1,), draws=1, starts=1, steps=2).measure(
        model, model, REQUEST
    )
    assert model.fingerprint == before
    assert all(weight.grad is None for weight in model.weights.values())
    assert not any(part._forward_hooks for part in model.module.modules())


@pytest.mark.parametrize("count", [1, 4])
def test_vectors_of_a_word_are_that_word(count: int) -> None:
    """A place filled with what the table holds for a name gives the row of that name, in the model's own way."""
    templates = ("a photo of a {}.", "{}", "the small {} there")
    request = Request(forget=(Concept(name="mug"),), templates=templates)
    output = AffineMap(down=torch.eye(64), up=torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))
    model = original().replace(outputs={"text": output})
    slots = find_slots(model, request, ["cat", "car"], count)
    assert len(slots.known) == 2
    numbers = [model.adapter.tokenize([f"a {name}"])["input_ids"][0, 2] for name in ("cat", "car")]
    with torch.no_grad():
        vectors = torch.stack([slots.table(number).expand(count, -1) for number in numbers])
        wanted = class_texts(model, request, [" ".join(["cat"] * count), " ".join(["car"] * count)])
        torch.testing.assert_close(slots.rows(vectors), wanted, atol=1e-5, rtol=1e-4)


def test_every_set_of_vectors_has_its_own_row() -> None:
    request = Request(forget=(Concept(name="mug"),), templates=("a photo of a {}.", "{}"))
    slots = find_slots(original(), request, ["cat", "car"], 2)
    vectors = torch.randn(130, 2, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rows = slots.rows(vectors)
        for place in (0, 127, 128, 129):
            torch.testing.assert_close(rows[place], slots.rows(vectors[place : place + 1])[0], atol=1e-5, rtol=1e-4)


def test_every_family_has_a_table(tiny: Any) -> None:
    slots = find_slots(tiny.model, Request(forget=(Concept(name="dog"),)), ["cat", "car"], 2)
    vectors = slots.known[:1].expand(2, -1).unsqueeze(0).clone().requires_grad_()
    (slope,) = torch.autograd.grad(slots.rows(vectors).square().sum() + slots.rows(vectors).sum(), [vectors])
    assert bool(slope.abs().sum(-1).all())


def test_a_tower_without_a_table_or_room(painter: Model) -> None:
    asked = Request(forget=(Concept(name="red"),))
    with pytest.raises(UndefinedError, match="no table of token vectors with room for 2"):
        find_slots(painter, asked, ["green"], 2)
    long = Request(forget=(Concept(name="mug"),), templates=("a photo of a " + "very " * 15 + "small {}.",))
    with pytest.raises(UndefinedError, match="room for 16"):
        find_slots(original(), long, ["cat"], 16)


def test_the_loss_of_a_lesson_by_hand() -> None:
    lesson = _Lesson(
        rows=torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]),
        labels=torch.tensor([[0, 1]]),
        texts=torch.tensor([[0.0, 1.0], [0.0, 1.0]]),
        gone=[0],
        scale=2.0,
    )
    rows = torch.tensor([[[[3.0, 0.0]]], [[[0.0, 3.0]]]])
    loss = torch.log1p(torch.exp(torch.tensor(-2.0)))
    expected = torch.stack([loss, torch.log(torch.tensor(2.0))]).unsqueeze(1)
    torch.testing.assert_close(lesson.losses(rows), expected)


def test_more_vectors_than_a_name_gives_way_to() -> None:
    with pytest.raises(SettingError, match="1 to 16"):
        build(SoftPrompt, {"tokens": (17,)}, where="probe soft_prompt")
