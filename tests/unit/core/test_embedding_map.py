"""What a patch does to embeddings, how far it goes, and which weights an embedding depends on."""

from dataclasses import replace

import pytest
import torch

from clip_unlearn.core.embedding_map import embedding_map, reach, used
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Reach
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.maths.lowrank import LowRank

SENTENCES = ["a cat", "a photo of a very old red teapot"]
WIDTH = 16


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moved(seed: int, *, offset: bool = False) -> AffineMap:
    down, up = 0.3 * draw(WIDTH, 2, seed=seed), draw(2, WIDTH, seed=seed + 1)
    return AffineMap(down=down, up=up, offset=draw(WIDTH, seed=seed + 2) if offset else None)


@pytest.mark.parametrize("folded", [False, True])
def test_it_acts_on_embeddings_as_the_edit_does(tiny, pixels, folded):
    patch = Patch(outputs={"image": moved(1), "text": moved(3)})
    patch = patch.folded(tiny.model) if folded else patch
    edited = patch.apply(tiny.model)
    for tower, before, after in (
        ("image", tiny.model.images(pixels), edited.images(pixels)),
        ("text", tiny.model.texts(SENTENCES), edited.texts(SENTENCES)),
    ):
        found = embedding_map(patch, tiny.model, tower)
        torch.testing.assert_close(found(before), after, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_weights_and_a_map_after_them_are_composed(tiny_clip, pixels):
    patch = replace(
        Patch(outputs={"image": moved(1)}).folded(tiny_clip.model), outputs={"image": moved(5, offset=True)}
    )
    found = embedding_map(patch, tiny_clip.model, "image")
    before, after = tiny_clip.model.images(pixels), patch.apply(tiny_clip.model).images(pixels)
    torch.testing.assert_close(found(before), after, rtol=1e-3, atol=1e-3)


def test_the_other_side_is_left_alone(tiny):
    patch = Patch(outputs={"image": moved(1)}).folded(tiny.model)
    assert embedding_map(patch, tiny.model, "text") is None
    assert reach(patch, tiny.model).towers == ("image",)


def encoder_weight(tiny, tower: str) -> str:
    """Return a weight matrix below the last layer of that side, whatever the family calls it."""
    readouts = {tiny.model.readout("image").weight, tiny.model.readout("text").weight}
    names = [
        name
        for name, weight in tiny.model.weights.items()
        if weight.ndim == 2 and name not in readouts and not name.endswith(("embeddings.weight", "pooler.dense.weight"))
    ]
    return next(name for name in names if name.startswith(("vis",)) == (tower == "image"))


@pytest.mark.parametrize("tower", ["image", "text"])
def test_edits_below_the_last_layer_need_the_inputs(tiny, tower):
    if type(tiny.module).__name__ == "VisionTextDualEncoderModel" and tower == "image":
        pytest.skip("the convolutional tower has no matrix")
    name = encoder_weight(tiny, tower)
    patch = Patch(
        deltas={
            name: LowRank(
                left=draw(tiny.model.weights[name].shape[0], 1), right=draw(1, tiny.model.weights[name].shape[1])
            )
        }
    )
    other = "text" if tower == "image" else "image"
    with pytest.raises(UnsupportedError, match=rf"changes '{name}' below the last layer.* Embed the {tower}s again"):
        embedding_map(patch, tiny.model, tower)
    assert embedding_map(patch, tiny.model, other) is None
    assert reach(patch, tiny.model) == Reach(towers=(tower,), depth="encoder")


def test_a_change_of_other_features_is_no_map(tiny):
    name = tiny.model.readout("image").weight
    shape = tiny.model.weights[name].shape
    patch = Patch(deltas={name: LowRank(left=draw(shape[0], 2), right=draw(2, shape[1], seed=1))})
    with pytest.raises(UnsupportedError, match=r"depends on more than the embedding \(\d+\.\d % of it is no map"):
        embedding_map(patch, tiny.model, "image")
    assert reach(patch, tiny.model) == Reach(towers=("image",), depth="readout")


def test_statistics_of_a_normalisation_always_count(tiny_dual):
    name = next(name for name in tiny_dual.model.weights if name.endswith("running_mean"))
    assert used(tiny_dual.model, "image", [name]) == (name,)


def test_the_scale_is_in_no_embedding(tiny):
    assert used(tiny.model, "image", ["logit_scale"]) == used(tiny.model, "text", ["logit_scale"]) == ()
    before = tiny.model.fingerprint
    assert embedding_map(Patch(deltas={"logit_scale": torch.ones(())}), tiny.model, "image") is None
    assert tiny.model.fingerprint == before
    assert not any(weight.requires_grad for weight in tiny.model.weights.values())


@pytest.mark.parametrize(("strength", "invertible"), [(1.0, False), (0.999, True), (0.5, True)])
@pytest.mark.parametrize("folded", [False, True])
def test_only_a_whole_removal_cannot_be_inverted(tiny, strength, invertible, folded):
    patch = Patch(outputs={"image": remove_directions(draw(3, WIDTH), strength=strength)})
    patch = patch.folded(tiny.model) if folded else patch
    assert reach(patch, tiny.model) == Reach(towers=("image",), depth="readout", invertible=invertible)


def test_an_empty_patch_reaches_nothing(tiny_clip):
    assert reach(Patch(), tiny_clip.model) == Reach()


@pytest.fixture
def biased():
    """Return an open_clip model whose text side ends in a linear layer with a bias."""
    open_clip = pytest.importorskip("open_clip")
    from clip_unlearn.core.record import Source
    from clip_unlearn.models import openclip

    vision = {"image_size": 32, "layers": 1, "width": 24, "head_width": 12, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 1, "proj_bias": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = open_clip.CLIP(embed_dim=WIDTH, vision_cfg=vision, text_cfg=text)
        torch.nn.init.normal_(module.text_projection.bias)
    module.visual.preprocess_cfg = {"size": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    return openclip.wrap(module, tokenizer, lambda _: torch.zeros(3, 32, 32), source=Source(where="test"))


@pytest.mark.parametrize("offset", [False, True])
def test_a_bias_is_mapped_along_and_what_is_left_is_the_offset(biased, offset):
    output = moved(1, offset=offset)
    patch = Patch(outputs={"text": output}).folded(biased)
    assert set(patch.deltas) == {"text_projection.weight", "text_projection.bias"}
    found = embedding_map(patch, biased, "text")
    assert (found.offset is not None) == offset
    before, after = biased.texts(SENTENCES), patch.apply(biased).texts(SENTENCES)
    torch.testing.assert_close(found(before), after, rtol=1e-4, atol=1e-4)


def test_a_bias_alone_is_an_offset(biased):
    found = embedding_map(Patch(deltas={"text_projection.bias": torch.ones(WIDTH)}), biased, "text")
    assert found.rank == 0
    torch.testing.assert_close(found.offset, torch.ones(WIDTH))
