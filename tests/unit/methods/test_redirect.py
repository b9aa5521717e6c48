"""Redirect on a model: where names go, on which side, and how the strength is settled."""

import math

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.config import build
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import redirect
from clip_unlearn.methods._overshoot import USUAL
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.runs.run import make_patch

REQUEST = Request(
    forget=(Concept(name="mug", synonyms=("cup",)), Concept(name="car")),
    retain=("bowl", "cat", "bus"),
    templates=("a photo of a {}.", "one {}"),
)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def rows(model: Model, *names: str) -> Tensor:
    embeddings = unit(model.texts(REQUEST.sentences(names)).double())
    return unit(embeddings.view(len(names), len(REQUEST.templates), -1).mean(1)).detach()


def concepts(model: Model) -> Tensor:
    mug, cup, car = rows(model, "mug", "cup", "car")
    return torch.stack([unit((mug + cup) / 2), car])


def neutral_of(model: Model, destination: str) -> Tensor:
    if destination == "retain":
        return unit(rows(model, "bowl", "cat", "bus").mean(0))
    return unit(model.texts(["" if destination == "empty" else destination]).double())[0].detach()


def matrix_of(change: AffineMap) -> Tensor:
    return torch.eye(len(change.down), dtype=torch.float64) + change.down.double() @ change.up.double()


@pytest.mark.parametrize("destination", ["retain", "empty", "a photo of something."])
@pytest.mark.parametrize("strength", [0.5, 1.0, 1.7])
def test_names_reach_their_destination(sandbox_model, destination, strength):
    method = Redirect(strength=strength, destination=destination, side="text", forget_weight=math.inf)
    found = method.forget(sandbox_model, REQUEST).outputs["text"](concepts(sandbox_model))
    neutral = neutral_of(sandbox_model, destination)
    common = (concepts(sandbox_model) @ neutral).unsqueeze(1) * neutral
    own = concepts(sandbox_model) - common
    torch.testing.assert_close(found, common + (1 - strength) * own, **CLOSE)
    assert float(own.norm(dim=1).min()) > 0.1


def test_destinations_differ(sandbox_model):
    directions = [neutral_of(sandbox_model, word) for word in ("retain", "empty", "a photo of something.")]
    changes = [
        matrix_of(Redirect(strength=1.0, destination=word).forget(sandbox_model, REQUEST).outputs["image"])
        for word in ("retain", "empty", "a photo of something.")
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert float((directions[first] - directions[second]).norm()) > 0.01
        assert float((changes[first] - changes[second]).abs().max()) > 1e-3


def test_the_mean_name_is_that_of_the_background_where_nothing_is_retained(sandbox_model):
    kept = Redirect(strength=1.0, retain_weight=3.0, background_weight=3.0)
    background = REQUEST.model_copy(update={"retain": (), "background": REQUEST.retain})
    first, second = (kept.forget(sandbox_model, request).outputs["image"] for request in (REQUEST, background))
    torch.testing.assert_close(matrix_of(second), matrix_of(first), rtol=1e-6, atol=1e-6)


def test_without_any_names_the_empty_sentence_is_the_neutral_place(sandbox_model):
    alone = REQUEST.model_copy(update={"retain": ()})
    first, second = (
        Redirect(strength=1.0, destination=word).forget(sandbox_model, alone).outputs["image"]
        for word in ("retain", "empty")
    )
    assert torch.equal(first.up, second.up)
    assert torch.equal(first.down, second.down)


def test_sides(tiny):
    request = Request(forget=(Concept(name="cat", synonyms=("teapot",)),), retain=("dog", "mug"))
    image, text, both = (Redirect(side=side).forget(tiny.model, request) for side in ("image", "text", "both"))
    assert image.touches == ("output:image",)
    assert text.touches == ("output:text",)
    assert both.touches == ("output:image", "output:text")
    matrices = {side: matrix_of(change) for side, change in both.outputs.items()}
    torch.testing.assert_close(matrices["image"], matrices["text"].T, rtol=1e-6, atol=1e-6)
    assert torch.equal(matrices["image"], matrix_of(image.outputs["image"]))
    assert torch.equal(matrices["text"], matrix_of(text.outputs["text"]))
    assert float((matrices["image"] - matrices["text"]).abs().max()) > 1e-3


@pytest.mark.parametrize(("pool", "rank"), [("name", 3), ("concept", 2)])
def test_directions_of_names_or_of_concepts(sandbox_model, pool, rank):
    assert Redirect(pool=pool).forget(sandbox_model, REQUEST).outputs["image"].rank == rank


def test_retained_names_stay(sandbox_model):
    change = Redirect(strength=2.0, side="text").forget(sandbox_model, REQUEST).outputs["text"]
    held = rows(sandbox_model, *REQUEST.retain)
    assert float((change(held) - held).norm(dim=1).max()) < 0.02


def test_a_given_strength_is_settled_already(sandbox_model):
    method = Redirect(strength=1.1)
    assert method.settled(sandbox_model, REQUEST) is method


def test_the_settled_strength_is_the_one_that_is_used(sandbox_model, monkeypatch):
    asked = []

    def chosen(*arguments: object) -> float:
        asked.append(arguments)
        return 1.71

    monkeypatch.setattr(redirect, "overshoot", chosen)
    method = Redirect(forget_weight=50.0, retain_weight=7.0, pool="name")
    settled = method.settled(sandbox_model, REQUEST)
    assert settled == Redirect(forget_weight=50.0, retain_weight=7.0, pool="name", strength=1.71)
    assert settled.settled(sandbox_model, REQUEST) == settled
    assert len(asked) == 1
    free, fixed, other = (
        matrix_of(one.forget(sandbox_model, REQUEST).outputs["image"])
        for one in (method, settled, settled.model_copy(update={"strength": 1.3}))
    )
    assert torch.equal(free, fixed)
    assert float((fixed - other).abs().max()) > 1e-2
    _, _, held, weights, neutral, forget_weight = asked[0]
    torch.testing.assert_close(held, rows(sandbox_model, *REQUEST.retain), **CLOSE)
    assert weights.tolist() == [7.0] * 3
    torch.testing.assert_close(neutral, neutral_of(sandbox_model, "retain"), **CLOSE)
    assert forget_weight == 50.0


def test_records_show_the_settled_strength(sandbox_model):
    patch = make_patch(sandbox_model, REQUEST, Redirect())
    assert patch.origin.settings["strength"] == USUAL
    assert patch.origin.method == "redirect"


def test_a_name_that_is_a_retained_name_to_the_model_is_refused(tiny_clip):
    request = Request(forget=(Concept(name="quux"),), retain=("dog", "frob", "mug"))
    with pytest.raises(UnsupportedError, match=r"cannot be told apart .* retained: 'frob'\. Remove"):
        Redirect().forget(tiny_clip.model, request)


def test_a_name_made_up_of_few_retained_names_is_refused(worded):
    table = {"mug": (1, 2, 0, 0), "bowl": (1, 0, 0, 0), "cat": (0, 1, 0, 0)}
    request = Request(forget=(Concept(name="mug"),), retain=("bowl", "cat"), templates=("{}",))
    with pytest.raises(UnsupportedError, match=r"cannot be told apart .* retained: 'cat', 'bowl'\. Remove"):
        Redirect().forget(worded(table), request)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"side": "left"}, "side = 'left' .*'image', 'text' or 'both'"),
        ({"strength": 0}, "strength = 0 .*greater than 0"),
        ({"strength": 4.1}, "strength = 4.1 "),
        ({"forget_weight": 0}, "forget_weight = 0 .*greater than 0"),
        ({"pool": "mean"}, "pool = 'mean' .*'concept' or 'name'"),
    ],
)
def test_unusable_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(SettingError, match=f"^redirect: {message}") as shown:
        build(Redirect, settings, where="redirect")
    assert "\n" not in str(shown.value)
