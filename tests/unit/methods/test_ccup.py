"""CCUP on a model: what falls, what stays, what each setting means, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.config import build
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import check_apart
from clip_unlearn.methods.ccup import Ccup

REQUEST = Request(forget=(Concept(name="mug", synonyms=("cup",)), Concept(name="car")), retain=("bowl", "cat", "bus"))
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
PLAIN = ("{}",)


def rows(model: Model, *names: str) -> Tensor:
    embeddings = unit(model.texts(REQUEST.sentences(names)).double())
    return unit(embeddings.view(len(names), len(REQUEST.templates), -1).mean(1)).detach()


def matrix_of(method: Ccup, model: Model, request: Request = REQUEST) -> Tensor:
    """Return the matrix M of z -> z M that the patch holds for the image tower."""
    change = method.forget(model, request).outputs["image"]
    return torch.eye(len(change.down), dtype=torch.float64) + change.down.double() @ change.up.double()


def test_it_is_the_published_form(sandbox_model):
    moved, held = rows(sandbox_model, "mug", "cup", "car"), rows(sandbox_model, "bowl", "cat", "bus")
    inner = torch.eye(moved.shape[1], dtype=torch.float64) + 20 * held.T @ held
    expected = inner @ torch.linalg.inv(inner + 5 * moved.T @ moved)
    found = matrix_of(Ccup(forget_weight=5, retain_weight=20), sandbox_model)
    torch.testing.assert_close(found, expected, **CLOSE)


def test_scores_with_forgotten_names_vanish_and_those_with_retained_names_stay(sandbox_model):
    matrix = matrix_of(Ccup(forget_weight=math.inf), sandbox_model)
    moved, held = rows(sandbox_model, "mug", "cup", "car"), rows(sandbox_model, "bowl", "cat", "bus")
    torch.testing.assert_close(matrix @ moved.T, torch.zeros_like(moved.T), **CLOSE)
    assert float((matrix @ held.T - held.T).norm(dim=0).max()) < 0.02


def test_conventions_are_transposes_and_differ_where_names_are_retained(sandbox_model):
    scores, vectors = (matrix_of(Ccup(convention=convention), sandbox_model) for convention in ("R", "C"))
    torch.testing.assert_close(vectors, scores.T, **CLOSE)
    assert float((vectors - scores).abs().max()) > 0.05
    alone = REQUEST.model_copy(update={"retain": ()})
    scores, vectors = (matrix_of(Ccup(convention=convention), sandbox_model, alone) for convention in ("R", "C"))
    torch.testing.assert_close(vectors, scores, **CLOSE)


def test_partial_strength_is_the_scaled_edit(sandbox_model):
    identity = torch.eye(rows(sandbox_model, "mug").shape[1], dtype=torch.float64)
    whole, part = (matrix_of(Ccup(strength=strength), sandbox_model) for strength in (1.0, 0.3))
    torch.testing.assert_close(part - identity, 0.3 * (whole - identity), rtol=1e-6, atol=1e-6)
    assert float((whole - identity).abs().max()) > 0.05


@pytest.mark.parametrize(("pool", "rank"), [("name", 3), ("concept", 2)])
def test_directions_of_names_or_of_concepts(tiny, pool, rank):
    request = Request(forget=(Concept(name="cat", synonyms=("teapot",)), Concept(name="car")), retain=("dog", "mug"))
    patch = Ccup(pool=pool).forget(tiny.model, request)
    assert patch.touches == ("output:image",)
    assert patch.outputs["image"].rank == rank


def test_the_background_is_held_by_its_own_weight(sandbox_model):
    request = REQUEST.model_copy(update={"background": ("apple",)})
    row = rows(sandbox_model, "apple")[0]
    gaps = [
        float((matrix_of(Ccup(background_weight=weight), sandbox_model, request) @ row - row).norm())
        for weight in (0.0, 3.0, 1e4)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 10 * gaps[2] > 0


def test_the_text_side_is_refused_with_the_reason(sandbox_model):
    with pytest.raises(
        UnsupportedError, match=r"^Ccup cannot .* parallel to t_f, .* redirect with side=text\.$"
    ) as shown:
        Ccup(side="text").forget(sandbox_model, REQUEST)
    assert "\n" not in str(shown.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"convention": "X"}, "convention = 'X' .*'(?i:R' or 'C)'"),
        ({"strength": 0}, "strength = 0 .*greater than 0"),
        ({"strength": 1.5}, "strength = 1.5 .*less than or equal to 1"),
        ({"forget_weight": 0}, "forget_weight = 0 .*greater than 0"),
        ({"retain_weight": -1}, "retain_weight = -1 .*greater than or equal to 0"),
        ({"background_weight": -1}, "background_weight = -1 "),
        ({"forget_wieght": 1}, "unknown setting 'forget_wieght'.*forget_weight"),
    ],
)
def test_unusable_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(SettingError, match=f"^ccup: {message}") as shown:
        build(Ccup, settings, where="ccup")
    assert "\n" not in str(shown.value)


def test_a_name_that_is_a_retained_name_to_the_model_is_refused(tiny_clip):
    """Both words are unknown to the tokenizer, so that they are the same sentence to the model."""
    request = Request(forget=(Concept(name="quux"),), retain=("dog", "frob", "mug"))
    with pytest.raises(UnsupportedError, match=r"cannot be told apart .* retained: 'frob'\. Remove"):
        Ccup().forget(tiny_clip.model, request)


def test_a_name_made_up_of_few_retained_names_is_refused(worded):
    table = {"mug": (1, 2, 0, 0, 0), "bowl": (1, 0, 0, 0, 0), "bus": (0, 0, 1, 0, 0), "cat": (0, 1, 0, 0, 0)}
    request = Request(forget=(Concept(name="mug"),), retain=("bowl", "bus", "cat"), templates=PLAIN)
    with pytest.raises(UnsupportedError, match=r"cannot be told apart .* retained: 'cat', 'bowl'\. Remove"):
        Ccup().forget(worded(table), request)
    without = request.model_copy(update={"retain": ("bowl", "bus")})
    assert Ccup().forget(worded(table), without).touches == ("output:image",)


def test_enough_retained_names_span_everything_and_are_no_reason_to_refuse():
    held = torch.eye(4, dtype=torch.float64)
    moved = unit(torch.ones(1, 4, dtype=torch.float64))
    check_apart(moved, held, "abcd")
    with pytest.raises(UnsupportedError, match="retained: 'b'"):
        check_apart(held[1:2], held, "abcd")
    with pytest.raises(UnsupportedError, match="retained: 'c'"):
        check_apart(torch.cat([moved, held[2:3]]), held[:3], "abc")
    check_apart(moved, held[:0], "")


def test_what_is_nearly_made_up_of_retained_names_is_not_refused():
    held = torch.eye(4, dtype=torch.float64)[:2]
    check_apart(unit(torch.tensor([[1.0, 1.0, 1e-3, 0.0]], dtype=torch.float64)), held, "ab")
    with pytest.raises(UnsupportedError, match="retained: '[ab]', '[ab]'"):
        check_apart(unit(torch.tensor([[1.0, 1.0, 1e-8, 0.0]], dtype=torch.float64)), held, "ab")
