"""A model of last layers alone: the same embeddings, the same weights, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from clip_unlearn.core.model import Model
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.data.readout import at_readout, image_features
from clip_unlearn.errors import UnsupportedError

SENTENCES = ("a photo of a cat", "dog", "a very long sentence about a bird", "dog")
BOTH = frozenset({"image", "text"})


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 36), (40 * place, 90, 200 - 30 * place)) for place in range(count)]


@pytest.mark.parametrize("kind", ["tiny_clip", "tiny_openclip"])
def test_it_embeds_as_the_model_does(request, kind):
    model = request.getfixturevalue(kind).model
    view = at_readout(model, BOTH)
    features = model.image_features(model.adapter.prepare(pictures(5)))
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
    features = model.image_features(model.adapter.prepare(pictures(3)))
    wanted = edited.images(model.adapter.prepare(pictures(3)))
    torch.testing.assert_close(view.images(features), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(view.texts(SENTENCES), edited.texts(SENTENCES), atol=1e-5, rtol=1e-4)


def test_rounding_depends_on_no_other_sentence(tiny_clip):
    one, other = (at_readout(tiny_clip.model, BOTH).adapter for _ in range(2))
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


def test_a_tower_without_a_last_layer_is_refused(tiny_clip, tmp_path):
    """As open_clip's towers that end in a pooled token, or hide what is before their projection."""
    adapter = tiny_clip.model.adapter
    for lacking in ({"readout": None}, {"features": None}):
        model = replace(tiny_clip.model, adapter=replace(adapter, image=replace(adapter.image, **lacking)))
        with pytest.raises(UnsupportedError, match=r"image tower .* descent\.depth=encoder"):
            at_readout(model, BOTH)
        with pytest.raises(UnsupportedError, match=r"image tower .* descent\.depth=encoder"):
            image_features(model, images_of(tmp_path))
        at_readout(model, frozenset({"text"}))


def images_of(folder: Path) -> ImageSet:
    for place, picture in enumerate(pictures(5)):
        (folder / "cat").mkdir(exist_ok=True)
        picture.save(folder / "cat" / f"{place}.png")
    (folder / "cat" / "5.png").write_bytes(b"no picture")
    return open_data(str(folder))


def test_embeddings_are_read_out_of_features_that_are_kept(tiny_clip, tmp_path, monkeypatch):
    """After embedding, features need no tower; an image that cannot be read has none."""
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path / "cache"))
    model, images = tiny_clip.model, images_of(tmp_path)
    embeddings = embed_images(model, images).vectors
    monkeypatch.setattr(Model, "images", lambda *_: pytest.fail("a tower was run"))
    features = image_features(model, images)
    assert not features[5].any()
    torch.testing.assert_close(model.read_out("image", features[:5]), embeddings, atol=1e-5, rtol=1e-4)
