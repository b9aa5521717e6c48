"""Sentences that a text tower has read before."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import pytest
import torch

from clip_unlearn.core.embedding_map import used
from clip_unlearn.core.model import Model, Tokens, TowerName
from clip_unlearn.core.text_memory import TowerMemory, remembering
from clip_unlearn.data.readout import at_readout
from clip_unlearn.files import digest
from clip_unlearn.maths.affine import AffineMap, remove_directions

FAMILIES = ["tiny_clip", "tiny_dual", "tiny_openclip"]
SAID = ["a red mug", "one cat", "a red mug", "a photo of two green frogs in the grass"]


@pytest.fixture(params=FAMILIES)
def plain(request: pytest.FixtureRequest) -> Model:
    model: Model = request.getfixturevalue(request.param).model
    return model


def counted(model: Model) -> tuple[Model, list[str]]:
    """Return a model that remembers, and the list of the sentences that it really reads."""
    read: list[str] = []
    tokenize = model.adapter.tokenize

    def listening(said: Sequence[str]) -> Tokens:
        read.extend(said)
        return tokenize(said)

    return remembering(replace(model, adapter=replace(model.adapter, tokenize=listening))), read


def start(model: Model) -> tuple[Model, list[str]]:
    """Return the same, with what was read to find out which weights the tower uses forgotten."""
    watched, read = counted(model)
    read.clear()
    return watched, read


def below(model: Model) -> str:
    """Return the name of a matrix of the text tower below its last layer that no embedding table is."""
    readout = model.readout("text")
    names = [name for name in used(model, "text", list(model.weights)) if readout is None or name != readout.weight]
    return next(name for name in names if model.weights[name].ndim == 2 and "embed" not in name)


@torch.no_grad()
def test_it_says_what_the_tower_says(plain: Model) -> None:
    watched, read = start(plain)
    torch.testing.assert_close(watched.texts(SAID), plain.texts(SAID), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(watched.text_features(SAID), plain.text_features(SAID), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(watched.texts(SAID[::-1]), plain.texts(SAID[::-1]), rtol=1e-5, atol=1e-6)
    assert sorted(read) == sorted(set(SAID))


def test_a_memory_is_kept(plain: Model) -> None:
    """So that whoever audits one model many times has its sentences read once."""
    first = remembering(plain)
    assert remembering(first).memory is first.memory is not None


@torch.no_grad()
def test_edits_that_leave_the_tower_alone_share_it(plain: Model) -> None:
    watched, read = start(plain)
    watched.texts(SAID)
    text, image = (watched.readout(tower) for tower in ("text", "image"))
    assert text is not None
    assert image is not None
    other = plain.replace({image.weight: 2 * plain.weights[image.weight].detach()})
    torch.testing.assert_close(
        watched.replace({image.weight: other.weights[image.weight]}).texts(SAID), plain.texts(SAID)
    )
    doubled = {text.weight: 2 * plain.weights[text.weight].detach()}
    torch.testing.assert_close(watched.replace(doubled).texts(SAID), plain.replace(doubled).texts(SAID))
    mapped: dict[TowerName, AffineMap] = {
        "text": remove_directions(torch.eye(plain.texts(["a"]).shape[1])[:1], strength=1.0)
    }
    torch.testing.assert_close(watched.replace(outputs=mapped).texts(SAID), plain.replace(outputs=mapped).texts(SAID))
    assert len(read) == len(set(SAID))


@torch.no_grad()
def test_a_changed_tower_reads_again(plain: Model) -> None:
    watched, read = start(plain)
    watched.texts(SAID)
    name = below(plain)
    changed = {name: -plain.weights[name].detach()}
    edited = watched.replace(changed)
    torch.testing.assert_close(edited.texts(SAID), plain.replace(changed).texts(SAID), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(edited.texts(SAID), watched.texts(SAID), atol=1e-4)
    assert len(read) == 2 * len(set(SAID))


@torch.no_grad()
def test_weights_that_are_written_to_are_others(plain: Model) -> None:
    name = below(plain)
    own = plain.weights[name].detach().clone()
    watched = remembering(plain).replace({name: own})
    before = watched.texts(SAID)
    own.mul_(-1)
    assert not torch.allclose(before, watched.texts(SAID), atol=1e-4)


def test_gradients_go_through_the_tower(plain: Model) -> None:
    watched, read = start(plain)
    with torch.no_grad():
        watched.texts(SAID)
    leaf = {below(plain): plain.weights[below(plain)].detach().clone().requires_grad_()}
    read.clear()
    (gradient,) = torch.autograd.grad(watched.replace(leaf).texts(SAID).square().sum(), list(leaf.values()))
    assert bool(gradient.any())
    assert len(read) == len(SAID)


@torch.no_grad()
def test_a_tower_goes_with_its_weights(tiny_clip: Any) -> None:
    watched = remembering(tiny_clip.model)
    name = below(watched)
    watched.replace({name: torch.zeros_like(watched.weights[name])}).texts(SAID)
    gc.collect()
    watched.texts(SAID)
    assert isinstance(watched.memory, TowerMemory)
    assert len(watched.memory._towers) == 1


@torch.no_grad()
def test_a_view_of_the_last_layer_keeps_its_own(tiny_clip: Any) -> None:
    watched = remembering(tiny_clip.model)
    view = at_readout(watched, frozenset({"text"}))
    for model in (watched, view, watched):
        torch.testing.assert_close(model.texts(SAID), tiny_clip.model.texts(SAID), rtol=1e-5, atol=1e-6)


def test_views_of_a_model_share_its_fingerprint(plain: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """All weights are read once, and again where one was written to or a model has others."""
    read: list[int] = []
    own = digest.of_bytes

    def counted(*parts: bytes) -> str:
        read.append(len(parts))
        return own(*parts)

    monkeypatch.setattr(digest, "of_bytes", counted)
    first = replace(plain, digests=WeakKeyDictionary()).replace({below(plain): plain.weights[below(plain)].clone()})
    expected = first.encoder_fingerprint
    assert replace(first, adapter=replace(first.adapter, preparation="other")).encoder_fingerprint == expected
    assert first.replace(outputs={}).encoder_fingerprint == expected
    assert len(read) == 1
    other = first.replace({below(plain): 2 * plain.weights[below(plain)].detach()})
    assert other.encoder_fingerprint != expected
    first.weights[below(plain)].detach().mul_(2)
    assert replace(first, adapter=first.adapter).encoder_fingerprint == other.encoder_fingerprint
