"""A model of last layers alone: the same embeddings, the same weights, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from clip_unlearn.core.model import Model
from clip_unlearn.data.readout import at_readout
from clip_unlearn.errors import UnsupportedError

SENTENCES = ("a photo of a cat", "dog", "a very long sentence about a bird", "dog")
BOTH = frozenset({"image", "text"})


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 36), (40 * place, 90, 200 - 30 * place)) for place in range(count)]


@pytest.mark.parametrize("kind", ["tiny_clip", "tiny_openclip"])
def test_it_embeds_as_the_model_does(request, kind):
    model = request.getfixturevalue(kind).model
    view = at_readout(model, BOTH)
    features = view.adapter.prepare(pictures(5))
    assert features.dim() == 2
    wanted = model.images(model.adapter.prepare(pictures(5)))
    torch.testing.assert_close(view.images(features), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(view.texts(SENTENCES), model.texts(SENTENCES), atol=1e-5, rtol=1e-4)
    assert all(view.weights[name] is weight for name, weight in model.weights.items())


def test_changed_last_layers_count(tiny_clip):
    model = tiny_clip.model
    changed = {
        readout.weight: 1.5 * model.weights[readout.weight] + 0.1
        for readout in map(model.readout, ("image", "text"))
        if readout is not None
    }
    edited, view = model.replace(changed), at_readout(model, BOTH).replace(changed)
    features = view.adapter.prepare(pictures(3))
    wanted = edited.images(model.adapter.prepare(pictures(3)))
    torch.testing.assert_close(view.images(features), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(view.texts(SENTENCES), edited.texts(SENTENCES), atol=1e-5, rtol=1e-4)


def test_rounding_depends_on_no_other_input(tiny_clip):
    one, other = (at_readout(tiny_clip.model, BOTH).adapter for _ in range(2))
    together, alone = one.prepare(pictures(4)), torch.cat([other.prepare([each]) for each in pictures(4)])
    assert torch.equal(together, alone)
    assert torch.equal(one.tokenize(SENTENCES)["features"][2:], other.tokenize(SENTENCES[2:])["features"])


def test_a_tower_is_run_once_for_a_sentence(tiny_clip, monkeypatch):
    asked: list[str] = []
    own = Model.text_features
    monkeypatch.setattr(Model, "text_features", lambda model, some: asked.extend(some) or own(model, some))
    view = at_readout(tiny_clip.model, BOTH)
    for _ in range(3):
        view.texts(SENTENCES)
    assert sorted(asked) == sorted(set(SENTENCES))


def test_the_other_tower_stays_whole(tiny_clip):
    model = tiny_clip.model
    view = at_readout(model, frozenset({"text"}))
    pixels = view.adapter.prepare(pictures(2))
    assert pixels.dim() == 4
    assert torch.equal(view.images(pixels), model.images(pixels))


def test_a_tower_without_a_last_layer_is_refused(tiny_clip):
    """As open_clip's towers that end in a pooled token, or hide what is before their projection."""
    adapter = tiny_clip.model.adapter
    for lacking in ({"readout": None}, {"features": None}):
        model = replace(tiny_clip.model, adapter=replace(adapter, image=replace(adapter.image, **lacking)))
        with pytest.raises(UnsupportedError, match=r"image tower .* descent\.depth=encoder"):
            at_readout(model, BOTH)
        at_readout(model, frozenset({"text"}))
