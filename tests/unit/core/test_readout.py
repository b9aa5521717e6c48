"""Features before the readout, and what is read out of them."""

from dataclasses import replace

import pytest
import torch

from clip_unlearn.core.embedding_map import shares_features, tower_digest, used
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Source
from clip_unlearn.data.embed import below_the_last_layer, embed_with_all, to_embed
from clip_unlearn.data.images import ImageSet
from clip_unlearn.maths.affine import remove_directions


@pytest.mark.parametrize("family", ["tiny_clip", "tiny_dual", "tiny_openclip"])
def test_reading_out_the_features_is_embedding(family, request):
    model = request.getfixturevalue(family).model
    pixels = torch.randn(3, 3, 32, 32)
    texts = ["a red mug", "one cat"]
    for tower, features, embedded in (
        ("image", model.image_features(pixels), model.images(pixels)),
        ("text", model.text_features(texts), model.texts(texts)),
    ):
        torch.testing.assert_close(model.read_out(tower, features), embedded, rtol=1e-5, atol=1e-6)


def test_the_output_map_comes_after_the_readout(tiny_clip):
    model, pixels = tiny_clip.model, torch.randn(2, 3, 32, 32)
    mapped = model.replace(outputs={"image": remove_directions(torch.randn(1, 16), strength=1.0)})
    torch.testing.assert_close(mapped.read_out("image", model.image_features(pixels)), mapped.images(pixels))


def test_features_are_shared_when_only_the_readout_differs(tiny_clip):
    model = tiny_clip.model
    readout = model.readout("image").weight
    below = next(name for name in model.weights if "vision_model" in name and name.endswith("weight"))
    assert shares_features(model, model.replace({readout: torch.zeros_like(model.weights[readout])}), "image")
    assert not shares_features(model, model.replace({below: torch.zeros_like(model.weights[below])}), "image")
    other = next(name for name in model.weights if "text_model" in name and name.endswith("fc1.weight"))
    edited = model.replace({other: torch.zeros_like(model.weights[other])})
    assert shares_features(model, edited, "image")
    assert not shares_features(model, edited, "text")
    headless = replace(model.adapter, image=replace(model.adapter.image, readout=None))
    assert not shares_features(replace(model, adapter=headless), model, "image")
    with pytest.raises(ValueError, match="no readout"):
        replace(model, adapter=headless).read_out("image", torch.zeros(1, 16))


def moved(model, name):
    return model.replace({name: 2 * model.weights[name].detach() + 1})


@pytest.mark.parametrize("family", ["tiny_clip", "tiny_dual", "tiny_openclip"])
def test_a_tower_is_known_by_the_weights_it_depends_on(family, request):
    """An edit of one tower leaves the digest of the other alone, and each weight of a tower is part of its own."""
    model = request.getfixturevalue(family).model
    whole = {tower: tower_digest(model, tower) for tower in ("image", "text")}
    assert whole["image"] != whole["text"]
    for name in model.weights:
        changed = [tower for tower in whole if tower_digest(moved(model, name), tower) != whole[tower]]
        own = [tower for tower in whole if used(model, tower, [name])]
        assert changed == own, name
    assert (
        tower_digest(model.replace(outputs={"image": remove_directions(torch.randn(1, 16), strength=1.0)}), "image")
        == whole["image"]
    )


def test_what_is_below_the_last_layer_is_known_without_it(tiny_clip):
    model = tiny_clip.model
    readout = model.readout("image").weight
    views = [below_the_last_layer(one) for one in (model, moved(model, readout))]
    assert tower_digest(views[0], "image") == tower_digest(views[1], "image") != tower_digest(model, "image")
    below = next(name for name in model.weights if "vision_model" in name and name.endswith("fc1.weight"))
    assert tower_digest(below_the_last_layer(moved(model, below)), "image") != tower_digest(views[0], "image")


def test_a_weight_that_nothing_is_seen_to_depend_on_counts(tiny_clip):
    """As an expert that a blank picture does not reach."""
    tower = tiny_clip.model.adapter.image
    cut = replace(tower, embed=lambda module, pixels: tower.embed(module, pixels).detach(), features=None, readout=None)
    model = replace(tiny_clip.model, adapter=replace(tiny_clip.model.adapter, image=cut))
    below = next(name for name in model.weights if "vision_model" in name and name.endswith("fc1.weight"))
    assert not used(model, "image", [below])
    assert tower_digest(moved(model, below), "image") != tower_digest(model, "image")


def test_edits_of_the_text_tower_and_of_last_layers_embed_no_image_again(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path))
    model, images = tiny_clip.model, pictures(5)
    text = next(name for name in model.weights if "text_model" in name and name.endswith("fc1.weight"))
    edits = [moved(model, text), moved(model, model.readout("image").weight)]
    wanted = [one.images(model.adapter.prepare([images.picture(index) for index in range(5)])) for one in edits]
    embed_with_all([model], images)
    own = Model.images  # With gradients a blank picture tells which weights count.
    monkeypatch.setattr(
        Model, "images", lambda *given: own(*given) if torch.is_grad_enabled() else pytest.fail("a tower was run")
    )
    for edited, embeddings in zip(edits, wanted, strict=True):
        torch.testing.assert_close(embed_with_all([edited], images)[0].vectors, embeddings, rtol=1e-4, atol=1e-5)
    assert to_embed([model, *edits], images) == 0


def test_two_models_that_share_features_run_the_tower_once(tiny_clip, monkeypatch):
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", "off")
    model = tiny_clip.model
    runs = []
    tower = model.adapter.image
    counting = replace(
        tower,
        features=lambda module, pixels: (
            torch.is_grad_enabled() or runs.append(len(pixels)),
            tower.features(module, pixels),
        )[1],
    )
    watched = replace(model, adapter=replace(model.adapter, image=counting), source=Source(where="watched"))
    readout = model.readout("image").weight
    edited = watched.replace({readout: -2 * model.weights[readout].detach()})
    images = pictures(5)
    first, second = embed_with_all([watched, edited], images)
    assert runs == [5]
    torch.testing.assert_close(second.vectors, -2 * first.vectors)
    torch.testing.assert_close(first.vectors, embed_with_all([model], images)[0].vectors, rtol=0, atol=1e-6)


def pictures(count: int) -> ImageSet:
    """Return a set of plain pictures."""
    from PIL import Image

    return ImageSet(
        where="here",
        keys=tuple(str(index) for index in range(count)),
        picture=lambda index: Image.new("RGB", (32, 32), (40 * index, 0, 200)),
        content=lambda index: f"{index:064d}",
    )
