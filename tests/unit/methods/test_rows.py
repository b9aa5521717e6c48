"""Name embeddings that closed forms use: pooling, what is held and how much, and the neutral place."""

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._rows import concept_rows, held_rows, name_rows, neutral_direction, without_alike

TEMPLATES = ("a photo of a {}.", "one {}")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def asking(*forget: str, **lists: tuple[str, ...]) -> Request:
    return Request(forget=forget, templates=TEMPLATES, **lists)


def row(model: Model, name: str) -> Tensor:
    """Return the mean of the unit embeddings of a name in both sentences, one sentence at a time."""
    embeddings = [model.texts([template.replace("{}", name)]).double()[0].detach() for template in TEMPLATES]
    return torch.stack([vector / vector.norm() for vector in embeddings]).mean(0)


def test_one_mean_per_name(tiny):
    found = name_rows(tiny.model, asking("cat"), ["cat", "dog"])
    torch.testing.assert_close(found, torch.stack([row(tiny.model, name) for name in ("cat", "dog")]), **CLOSE)
    assert float(found.norm(dim=1).max()) < 1


def test_one_direction_per_name_or_per_concept(tiny):
    request = asking("cat | teapot", "dog")
    cat, teapot, dog = (unit(row(tiny.model, name)) for name in ("cat", "teapot", "dog"))
    torch.testing.assert_close(concept_rows(tiny.model, request, "name"), torch.stack([cat, teapot, dog]), **CLOSE)
    pooled = torch.stack([unit((cat + teapot) / 2), dog])
    torch.testing.assert_close(concept_rows(tiny.model, request, "concept"), pooled, **CLOSE)


def test_names_to_retain_come_first_and_each_list_has_its_weight(sandbox_model):
    request = asking("mug", retain=("bowl", "cat"), background=("apple", "hat", "axe"))
    moved = concept_rows(sandbox_model, request, "name")
    held, weights = held_rows(sandbox_model, request, moved, 100.0, 3.0)
    expected = [unit(row(sandbox_model, name)) for name in (*request.retain, *request.background)]
    torch.testing.assert_close(held, torch.stack(expected), **CLOSE)
    assert weights.tolist() == [100.0, 100.0, 3.0, 3.0, 3.0]
    assert weights.dtype == held.dtype == torch.float64


@pytest.mark.parametrize("background", [("cup", "car"), ("car", "beaker"), ("cup", "beaker", "car", "bus")])
def test_other_names_of_what_is_forgotten_are_not_held(sandbox_model, background):
    """The embedded model takes "cup" and "beaker" for "mug"."""
    request = asking("mug", background=background)
    held, weights = held_rows(sandbox_model, request, concept_rows(sandbox_model, request, "name"), 100.0, 3.0)
    kept = [name for name in background if name not in ("cup", "beaker")]
    torch.testing.assert_close(held, torch.stack([unit(row(sandbox_model, name)) for name in kept]), **CLOSE)
    assert weights.tolist() == [3.0] * len(kept)


def test_other_names_are_looked_for_beside_every_concept(sandbox_model):
    request = asking("apple", "mug", background=("cup", "car", "bowl"))
    held, _ = held_rows(sandbox_model, request, concept_rows(sandbox_model, request, "concept"), 100.0, 3.0)
    torch.testing.assert_close(held, torch.stack([unit(row(sandbox_model, name)) for name in ("car", "bowl")]), **CLOSE)


def test_what_the_user_retains_is_held_whatever_the_model_takes_it_for(sandbox_model):
    request = asking("mug", retain=("cup", "car"))
    held, weights = held_rows(sandbox_model, request, concept_rows(sandbox_model, request, "name"), 100.0, 3.0)
    torch.testing.assert_close(held, torch.stack([unit(row(sandbox_model, name)) for name in ("cup", "car")]), **CLOSE)
    assert weights.tolist() == [100.0, 100.0]


def test_nothing_to_hold(sandbox_model):
    request = asking("mug")
    moved = concept_rows(sandbox_model, request, "name")
    held, weights = held_rows(sandbox_model, request, moved, 100.0, 3.0)
    assert held.shape == (0, moved.shape[1])
    assert weights.shape == (0,)


def test_a_background_without_what_the_model_takes_for_the_forgotten(sandbox_model):
    """In the order it was; names to retain and everything else of the request stay as they are."""
    request = asking("apple", "mug | vase", retain=("bowl", "cat"), background=("cup", "car", "beaker", "axe"))
    found = without_alike(sandbox_model, request)
    assert found == Request(**{**request.model_dump(), "background": ("car", "axe")})
    assert found.retain == ("bowl", "cat")
    assert without_alike(sandbox_model, found) == found


def test_names_alike_are_those_with_a_high_cosine_about_the_mean_noun(worded):
    """Nouns at (1, .1), (1, -.9), (-2, 1.4) less (0, .2): the first has a cosine with (1, 0) of .98, as told."""
    nouns = {"near": (1.0, 0.1), "far": (1.0, -0.9), "away": (-2.0, 1.4)}
    rows = {name: torch.tensor(row, dtype=torch.float64) for name, row in {**nouns, "mug": (1.0, 0.0)}.items()}
    rows = {name: row / row.norm() for name, row in rows.items()}
    centre = sum(rows[name] for name in nouns) / 3
    cosines = {name: float(unit(rows[name] - centre) @ unit(rows["mug"] - centre)) for name in nouns}
    assert cosines["near"] > 0.97 > max(cosines["far"], cosines["away"])
    table = {template.replace("{}", name): row.tolist() for name, row in rows.items() for template in TEMPLATES}
    found = without_alike(worded(table), asking("mug", background=tuple(nouns)))
    assert found.background == ("far", "away")


def test_without_a_background_the_request_is_the_same(sandbox_model):
    request = asking("mug", retain=("cup", "car"))
    assert without_alike(sandbox_model, request) is request


@pytest.mark.parametrize(
    ("destination", "lists", "names"),
    [
        ("retain", {"retain": ("bowl", "cat"), "background": ("axe",)}, ("bowl", "cat")),
        ("retain", {"background": ("axe", "hat")}, ("axe", "hat")),
    ],
)
def test_the_mean_name_is_neutral(sandbox_model, destination, lists, names):
    found = neutral_direction(sandbox_model, asking("mug", **lists), destination)
    expected = unit(torch.stack([unit(row(sandbox_model, name)) for name in names]).mean(0))
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize(
    ("destination", "lists", "sentence"),
    [
        ("retain", {}, ""),
        ("empty", {"retain": ("bowl", "cat")}, ""),
        ("empty", {}, ""),
        ("a photo of something.", {"retain": ("bowl", "cat")}, "a photo of something."),
    ],
)
def test_a_sentence_is_neutral(sandbox_model, destination, lists, sentence):
    found = neutral_direction(sandbox_model, asking("mug", **lists), destination)
    torch.testing.assert_close(found, unit(sandbox_model.texts([sentence]).double())[0].detach(), **CLOSE)
    assert not found.requires_grad
    assert float(found.norm()) == pytest.approx(1)
