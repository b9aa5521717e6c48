"""Wider words counted by hand on colours, and on a model of which is known what it lost."""

import pytest
import torch
from known import DATA, original, value
from test_probes import one

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.affine import remove_directions
from clip_unlearn.probes.audit.hypernyms import Hypernyms
from clip_unlearn.sandbox.classes import CLASS_NAMES

ASKED = Request(forget=(Concept(name="red"),), retain=("green", "blue"))
WARM = (("red", "crimson"), ("green", "crimson"), ("blue", "blue"))


def test_the_kind_and_its_siblings_by_hand(painter: Model, photos: str) -> None:
    """Of ten pictures called red two are green, and neither wider word wins those."""
    blind = painter.replace(outputs={"image": remove_directions(torch.tensor([[0.0, 1.0, 0]]), strength=1.0)})
    found = Hypernyms(data=photos, split="all", wider=WARM).measure(painter, blind, ASKED)
    assert {(r.name, r.of) for r in found} == {("hypernym accuracy", "crimson"), ("sibling accuracy", "")}
    assert [one(found, "hypernym accuracy", side, "crimson").value for side in ("before", "after")] == [0.8, 0.8]
    assert [one(found, "sibling accuracy", side).value for side in ("before", "after")] == [0.8, 0.0]
    assert one(found, "sibling accuracy").count == 10
    assert one(found, "sibling accuracy").better == "high"


def test_what_hides_the_kind_is_seen(painter: Model, photos: str) -> None:
    blind = painter.replace(outputs={"image": remove_directions(torch.tensor([[1.0, 0, 0]]), strength=1.0)})
    found = Hypernyms(data=photos, split="all", wider=WARM).measure(painter, blind, ASKED)
    assert one(found, "hypernym accuracy", "after", "crimson").value == 0


def test_a_word_of_its_own_is_no_rival(painter: Model, photos: str) -> None:
    """A class with two wider words is not to choose between them."""
    words = (("red", "crimson"), ("red", "green"), ("green", "green"), ("blue", "blue"))
    found = Hypernyms(data=photos, split="all", wider=words).measure(painter, painter, ASKED)
    assert {r.of: r.value for r in found if (r.name, r.subject) == ("hypernym accuracy", "after")} == {
        "crimson": 0.8,
        "green": 0.2,
    }


def test_without_a_wider_word(painter: Model, photos: str) -> None:
    with pytest.raises(UndefinedError, match="no wider word is known for red"):
        Hypernyms(data=photos, split="all").measure(painter, painter, ASKED)
    same = tuple((name, "crimson") for name in ("red", "green", "blue"))
    found = Hypernyms(data=photos, split="all", wider=same).measure(painter, painter, ASKED)
    assert {r.name for r in found} == {"sibling accuracy"}


def test_kinds_are_found_by_themselves() -> None:
    model = original()
    others = tuple(name for name in CLASS_NAMES if name != "cat")
    request = Request(forget=(Concept(name="cat"),), retain=others)
    found = Hypernyms(data=DATA).measure(model, model, request)
    assert value(found, "hypernym accuracy", "after", "animal") > 0.5
    assert value(found, "sibling accuracy", "after") > 0.9
