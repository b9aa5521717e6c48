"""What a method needs is checked before it runs, and what is missing is named with the way out."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.errors import UnsupportedError

EVIDENCE = Evidence(where="sandbox", digest="0" * 64)


def needing(*needs: str) -> Method:
    class Needy(Method):
        def forget(self, model, request):
            return Patch()

    Needy.needs = frozenset(needs)
    return Needy()


def ask(**rest: object) -> Request:
    return Request(forget=(Concept(name="cat"),), **rest)


@pytest.mark.parametrize(
    ("need", "without", "with_it", "way_out"),
    [
        ("retain", ask(), ask(retain=("dog",)), r"^Needy needs names to retain\. Give --retain NAMES"),
        ("images", ask(), ask(evidence=EVIDENCE), r"^Needy needs images of the class\. Give them with --data"),
    ],
)
def test_what_the_request_lacks(tiny_clip, need, without, with_it, way_out):
    method = needing("texts", need)
    method.check(tiny_clip.model, with_it)
    with pytest.raises(UnsupportedError, match=way_out):
        method.check(tiny_clip.model, without)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_what_the_model_lacks(tiny_clip, tower):
    adapter = tiny_clip.model.adapter
    blunt = dataclasses.replace(getattr(adapter, tower), readout=None)
    model = dataclasses.replace(tiny_clip.model, adapter=dataclasses.replace(adapter, **{tower: blunt}))
    needing("readout").check(tiny_clip.model, ask())
    with pytest.raises(UnsupportedError, match=r"needs towers that end in a linear layer\. Use Project"):
        needing("readout").check(model, ask())


def test_a_method_that_needs_little_is_content(tiny_clip):
    needing("texts", "gradients").check(tiny_clip.model, ask())


class Choosy(Method):
    """Needs images by default, and none with another setting."""

    needs: ClassVar = frozenset({"texts", "images"})

    pictures: str = "real"

    def requires(self):
        return self.needs if self.pictures == "real" else frozenset({"texts"})

    def forget(self, model, request):
        return Patch()


def test_settings_decide_what_is_needed(tiny_clip):
    assert needing("texts", "images").requires() == {"texts", "images"}
    Choosy(pictures="made").check(tiny_clip.model, ask())
    with pytest.raises(UnsupportedError, match=r"^Choosy needs images of the class\."):
        Choosy().check(tiny_clip.model, ask())


def blocked(model: Model, embed: Callable[[nn.Module, Tensor], Tensor]) -> Model:
    """Return the model with another image tower."""
    adapter = model.adapter
    return dataclasses.replace(
        model, adapter=dataclasses.replace(adapter, image=dataclasses.replace(adapter.image, embed=embed))
    )


def test_gradients_are_there(tiny):
    with torch.no_grad():
        needing("gradients").check(tiny.model, ask())
    assert all(weight.grad is None for weight in tiny.model.weights.values())


@pytest.mark.parametrize("how", ["no graph", "pixels left out"])
def test_an_image_tower_without_gradients_is_refused(tiny_clip, how):
    model = tiny_clip.model

    def embed(module, pixels):
        if how == "no graph":
            return model.adapter.image.embed(module, pixels).detach()
        return model.adapter.image.embed(module, pixels.detach())

    needing("texts").check(blocked(model, embed), ask())
    with pytest.raises(UnsupportedError, match=r"^Needy needs gradients, and the image tower gives none\. Use Project"):
        needing("gradients").check(blocked(model, embed), ask())
