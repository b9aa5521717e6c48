"""The immutable model: sharing, fingerprints, batches of texts. On every tiny family."""

import dataclasses

import pytest
import torch

from clip_unlearn.core.model import Model
from clip_unlearn.maths.affine import AffineMap, remove_directions

SENTENCES = ["a photo of a cat.", "dog", "a very very old picture of the big red teapot", "mug"]


def some_weight(model: Model) -> str:
    return max(model.weights, key=lambda name: model.weights[name].dim())


def a_map(model: Model, *, seed: int = 0, offset: bool = False) -> AffineMap:
    directions = torch.randn(2, model.texts(["cat"]).shape[1], generator=torch.Generator().manual_seed(seed))
    removal = remove_directions(directions, strength=0.5)
    return dataclasses.replace(removal, offset=torch.ones(directions.shape[1])) if offset else removal


def test_weights_are_named_as_in_the_checkpoint_and_shared(tiny):
    assert tiny.model.weights.keys() == tiny.module.state_dict().keys()
    name = some_weight(tiny.model)
    assert tiny.model.weights[name] is tiny.module.state_dict(keep_vars=True)[name]


def test_replace_shares_every_untouched_weight(tiny):
    name = some_weight(tiny.model)
    edited = tiny.model.replace({name: torch.zeros_like(tiny.model.weights[name])})
    assert [other for other, weight in edited.weights.items() if weight is not tiny.model.weights[other]] == [name]
    assert edited.adapter is tiny.model.adapter


def test_replacing_maps_alone_copies_no_module(tiny):
    edited = tiny.model.replace(outputs={"image": a_map(tiny.model)})
    assert edited.module is tiny.model.module
    assert tiny.model.outputs == {}


def test_replace_keeps_the_maps_unless_told(tiny):
    edited = tiny.model.replace(outputs={"text": a_map(tiny.model)})
    name = some_weight(edited)
    again = edited.replace({name: torch.zeros_like(edited.weights[name])})
    assert again.outputs is edited.outputs
    assert again.replace(outputs={}).outputs == {}


def test_a_map_moves_its_own_tower_only(tiny, pixels):
    change = a_map(tiny.model, offset=True)
    edited = tiny.model.replace(outputs={"image": change})
    assert torch.equal(edited.images(pixels), change(tiny.model.images(pixels)))
    assert torch.equal(edited.texts(SENTENCES), tiny.model.texts(SENTENCES))


def test_the_fingerprint_changes_exactly_with_weights_and_maps(tiny):
    model, name = tiny.model, some_weight(tiny.model)
    nudged = model.weights[name].detach().clone()
    nudged.view(-1)[0] += 1
    same = [model, model.replace(), model.replace({name: model.weights[name].detach().clone()})]
    other = [
        model.replace({name: nudged}),
        model.replace(outputs={"image": a_map(model)}),
        model.replace(outputs={"text": a_map(model)}),
        model.replace(outputs={"image": a_map(model, seed=1)}),
        model.replace(outputs={"image": a_map(model, offset=True)}),
        model.replace(outputs={"image": a_map(model), "text": a_map(model)}),
    ]
    assert len({member.fingerprint for member in same}) == 1
    assert len({member.fingerprint for member in [model, *other]}) == 7


def test_the_encoder_fingerprint_ignores_maps(tiny):
    edited = tiny.model.replace(outputs={"image": a_map(tiny.model)})
    assert edited.encoder_fingerprint == tiny.model.encoder_fingerprint == tiny.model.fingerprint


def test_texts_come_back_in_order_whatever_the_batches(tiny, monkeypatch):
    whole = tiny.model.texts(SENTENCES)
    monkeypatch.setattr("clip_unlearn.core.model.TEXT_BATCH", 2)
    torch.testing.assert_close(tiny.model.texts(SENTENCES), whole)
    one_by_one = torch.cat([tiny.model.texts([sentence]) for sentence in SENTENCES])
    torch.testing.assert_close(one_by_one, whole, rtol=1e-5, atol=1e-6)


def test_logits_are_scaled_cosines(tiny, pixels):
    images, texts = tiny.model.images(pixels), tiny.model.texts(SENTENCES)
    cosines = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=-1)
    torch.testing.assert_close(tiny.model.logits(pixels, SENTENCES), cosines * 2.718281828**3, rtol=1e-4, atol=1e-4)


def test_a_null_embedding_scores_nothing(tiny, pixels):
    width = tiny.model.texts(["cat"]).shape[1]
    nothing = AffineMap(down=torch.eye(width), up=-torch.eye(width))
    edited = tiny.model.replace(outputs={"image": nothing})
    assert torch.equal(edited.logits(pixels, SENTENCES), torch.zeros(len(pixels), len(SENTENCES)))


def test_gradients_reach_a_replaced_weight(tiny, pixels):
    name = tiny.model.adapter.image.readout.weight
    leaf = tiny.model.weights[name].detach().clone().requires_grad_()
    tiny.model.replace({name: leaf}).images(pixels).sum().backward()
    assert leaf.grad.abs().sum() > 0
    assert not any(weight.requires_grad for weight in tiny.model.weights.values())


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_readout_takes_the_features_to_the_embedding(tiny, pixels, tower):
    model = tiny.model
    features = model.image_features(pixels) if tower == "image" else model.text_features(SENTENCES)
    embeddings = model.images(pixels) if tower == "image" else model.texts(SENTENCES)
    readout = model.readout(tower)
    weight = model.weights[readout.weight]
    assert readout.bias is None
    torch.testing.assert_close(features @ (weight if readout.transposed else weight.T), embeddings)


def test_pixels_in_the_unit_range_are_normalised_as_pictures_are(tiny):
    """The same picture, prepared by the library and by hand."""
    from PIL import Image

    space = tiny.model.adapter.pixels
    noise = torch.randint(0, 256, (space.height, space.width, 3), generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray(noise.to(torch.uint8).numpy())
    by_hand = space.normalise((noise / 255).permute(2, 0, 1).unsqueeze(0))
    torch.testing.assert_close(by_hand, tiny.model.adapter.prepare([picture]), rtol=1e-4, atol=1e-4)
