"""Projection: what it removes, what it leaves, and what each setting means."""

import pytest
import torch

from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.project import Project

REQUEST = Request(
    forget=(Concept(name="cat", synonyms=("teapot",)),),
    retain=("dog", "mug"),
    templates=("a photo of a {}.", "one {}"),
)


def names(model, *words: str) -> torch.Tensor:
    """Return the mean unit embedding of each name over the templates."""
    return torch.stack([unit(model.texts(REQUEST.sentences([word])).double()).mean(0) for word in words]).float()


def test_the_centred_directions_of_all_names_are_gone(tiny):
    model = tiny.model
    change = Project().forget(model, REQUEST).outputs["image"]
    centred = names(model, "cat", "teapot") - names(model, "dog", "mug").mean(0)
    assert change.rank == 2
    assert torch.equal(change(centred), torch.zeros_like(centred))


def test_what_has_no_part_in_them_is_untouched(tiny):
    change = Project().forget(tiny.model, REQUEST).outputs["image"]
    rows = change(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(change(rows), rows, rtol=1e-5, atol=1e-5)


def test_half_the_strength_removes_half(tiny):
    whole, half = (Project(strength=strength).forget(tiny.model, REQUEST).outputs["image"] for strength in (1.0, 0.5))
    rows = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half(rows), (rows + whole(rows)) / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("request_", [REQUEST, REQUEST.model_copy(update={"retain": ()})])
def test_uncentred_directions_are_the_names_themselves(tiny, request_):
    settings = {"centre": "none"} if request_.retain else {}
    change = Project(**settings).forget(tiny.model, request_).outputs["image"]
    rows = names(tiny.model, "cat", "teapot")
    assert torch.equal(change(rows), torch.zeros_like(rows))


def test_every_sentence_can_be_a_direction(tiny):
    assert Project(pool="each").forget(tiny.model, REQUEST).outputs["image"].rank == 4


def test_the_text_side_and_all_weights_are_left_alone(tiny):
    assert Project().forget(tiny.model, REQUEST).touches == ("output:image",)


def test_a_name_without_a_direction_of_its_own_is_refused(tiny_clip):
    """Both words are unknown to the tokenizer, so that they are the same sentence to the model."""
    request = Request(forget=(Concept(name="quux"),), retain=("frob",))
    with pytest.raises(UnsupportedError, match=r"no direction of their own in this model\. Use other names\.$"):
        Project().forget(tiny_clip.model, request)


@pytest.mark.parametrize("strength", [0, -0.5, 1.01])
def test_strength_is_checked(strength):
    with pytest.raises(ValueError, match="strength"):
        Project(strength=strength)
