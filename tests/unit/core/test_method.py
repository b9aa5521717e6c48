"""What a method needs is checked before it runs, and what is missing is named with the way out."""

import dataclasses

import pytest

from clip_unlearn.core.method import Method
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
