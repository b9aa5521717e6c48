"""Patches as data: what they do, what they refuse, how they compose."""

import dataclasses

import pytest
import torch

from clip_unlearn.core.model import Model, Readout
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Origin, Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import UnsupportedError, WeightsError
from clip_unlearn.maths import lowrank
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import LowRank

SENTENCES = ["a photo of a cat.", "dog", "a very old mug"]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image_map(model: Model, *, seed: int = 0, offset: bool = False) -> AffineMap:
    """Return a map that is no projection and not symmetric, so that a wrong order or a lost transpose shows."""
    width = model.texts(["cat"]).shape[1]
    down, up = draw(width, 2, seed=seed), draw(2, width, seed=seed + 100)
    return AffineMap(down=down, up=up, offset=draw(width) if offset else None)


def weight_patch(model: Model, *, seed: int = 0) -> Patch:
    name = model.adapter.text.readout.weight
    rows, columns = model.weights[name].shape
    thin = LowRank(left=draw(rows, 1, seed=seed), right=draw(1, columns, seed=seed))
    return Patch(deltas={name: thin, "logit_scale": torch.tensor(0.5)})


def same_outputs(first: Model, second: Model, pixels: torch.Tensor, tolerance: float = 1e-5) -> None:
    for name, inputs in (("images", pixels), ("texts", SENTENCES)):
        wanted = getattr(second, name)(inputs)
        limit = tolerance * float(wanted.abs().max())
        torch.testing.assert_close(getattr(first, name)(inputs), wanted, rtol=0, atol=limit)


def origin(model: Model) -> Origin:
    request = Request(forget=(Concept(name="cat"),))
    base = Source(where="tiny", digest=model.fingerprint)
    return Origin(method="project", settings={"strength": 1.0}, request=request, base=base, version="0")


def test_apply_adds_in_float32_and_shares_the_rest(tiny):
    patch = weight_patch(tiny.model)
    edited = patch.apply(tiny.model)
    for name, weight in tiny.model.weights.items():
        if name in patch.deltas:
            assert torch.equal(edited.weights[name], weight + lowrank.dense(patch.deltas[name]))
        else:
            assert edited.weights[name] is weight


def test_apply_appends_to_a_map_that_is_there(tiny, pixels):
    first, second = (Patch(outputs={"image": image_map(tiny.model, seed=seed)}) for seed in (1, 2))
    twice = second.apply(first.apply(tiny.model))
    expected = second.outputs["image"](first.outputs["image"](tiny.model.images(pixels)))
    torch.testing.assert_close(twice.images(pixels), expected, rtol=1e-5, atol=1e-4)


def test_half_precision_weights_keep_their_format(tiny_clip):
    name = tiny_clip.model.adapter.text.readout.weight
    half = tiny_clip.model.replace({name: tiny_clip.model.weights[name].detach().bfloat16()})
    edited = weight_patch(half).apply(half)
    assert edited.weights[name].dtype == torch.bfloat16
    assert 0.5 < weight_patch(half).survived(half) < 1.5
    assert Patch(deltas={name: torch.full_like(half.weights[name].float(), 1e-9)}).survived(half) < 0.5


def test_then_acts_as_one_after_the_other(tiny, pixels):
    first = weight_patch(tiny.model)
    second = Patch(deltas=weight_patch(tiny.model, seed=1).deltas, outputs={"image": image_map(tiny.model)})
    third = Patch(outputs={"image": image_map(tiny.model, seed=2, offset=True), "text": image_map(tiny.model)})
    stepwise = third.apply(second.apply(first.apply(tiny.model)))
    together = first.then(second).then(third)
    same_outputs(together.apply(tiny.model), stepwise, pixels)
    assert isinstance(together.deltas[tiny.model.adapter.text.readout.weight], LowRank)


def test_then_adds_thin_and_dense_changes(tiny):
    thin, name = weight_patch(tiny.model), tiny.model.adapter.text.readout.weight
    dense = Patch(deltas={name: torch.ones_like(tiny.model.weights[name])})
    assert torch.equal(thin.then(dense).deltas[name], lowrank.dense(thin.deltas[name]) + 1)


def test_then_refuses_weights_below_a_map(tiny):
    with pytest.raises(UnsupportedError, match=r"cannot be followed by one with weights\. Fold it first\.$"):
        Patch(outputs={"image": image_map(tiny.model)}).then(weight_patch(tiny.model))


def test_scaled(tiny, pixels):
    patch = Patch(deltas=weight_patch(tiny.model).deltas, outputs={"image": image_map(tiny.model, offset=True)})
    nothing, whole, half = (patch.scaled(factor).apply(tiny.model) for factor in (0.0, 1.0, 0.5))
    same_outputs(nothing, tiny.model, pixels, tolerance=0)
    same_outputs(whole, patch.apply(tiny.model), pixels, tolerance=0)
    middle = (tiny.model.images(pixels) + patch.apply(tiny.model).images(pixels)) / 2
    torch.testing.assert_close(half.images(pixels), middle, rtol=1e-5, atol=1e-5)


def test_folding_moves_maps_into_weights_and_acts_alike(tiny, pixels):
    patch = Patch(outputs={"image": image_map(tiny.model), "text": image_map(tiny.model, seed=1)})
    folded = patch.folded(tiny.model)
    assert folded.portable
    assert not patch.portable
    assert folded.touches == tuple(sorted(tiny.model.readout(tower).weight for tower in ("image", "text")))
    same_outputs(folded.apply(tiny.model), patch.apply(tiny.model), pixels)


def test_a_map_with_an_offset_needs_a_bias_to_fold(tiny, pixels):
    patch = Patch(outputs={"image": image_map(tiny.model, offset=True)})
    assert patch.folded(tiny.model).touches == ("output:image",)


def test_a_map_folds_into_a_readout_with_a_bias(tiny_clip, pixels):
    """A layer norm's weight and bias stand for nothing here: only the arithmetic of the bias is looked at."""
    model = with_bias(tiny_clip.model)
    patch = Patch(outputs={"image": image_map(model, offset=True)})
    folded = patch.folded(model)
    assert folded.touches == ("visual_projection.bias", "visual_projection.weight")
    same_outputs(folded.apply(model), patch.apply(model), pixels)


@pytest.mark.parametrize("name", ["visual_projection.weight", "visual_projection.bias"])
def test_a_map_does_not_fold_over_a_change_that_is_there(tiny_clip, pixels, name):
    model = with_bias(tiny_clip.model)
    patch = Patch(deltas={name: torch.ones_like(model.weights[name])}, outputs={"image": image_map(model)})
    folded = patch.folded(model)
    assert folded.touches == (name, "output:image")
    same_outputs(folded.apply(model), patch.apply(model), pixels)


def test_a_map_does_not_fold_into_a_tied_weight(tiny_clip, pixels):
    import copy

    module = copy.deepcopy(tiny_clip.module)
    module.text_projection.weight = module.visual_projection.weight
    model = dataclasses.replace(tiny_clip.model, module=module)
    patch = Patch(outputs={"image": image_map(model)})
    same_outputs(patch.folded(model).apply(model), patch.apply(model), pixels)


def test_a_map_behind_a_map_does_not_fold(tiny, pixels):
    mapped = tiny.model.replace(outputs={"image": image_map(tiny.model)})
    assert Patch(outputs={"image": image_map(tiny.model, seed=1)}).folded(mapped).touches == ("output:image",)


def test_between_turns_one_model_into_the_other(tiny, pixels):
    edited = weight_patch(tiny.model).apply(tiny.model)
    patch = Patch.between(tiny.model, edited)
    assert patch.touches == weight_patch(tiny.model).touches
    same_outputs(patch.apply(tiny.model), edited, pixels, tolerance=1e-5)
    assert Patch.between(tiny.model, tiny.model.replace()).empty


def test_between_refuses_maps(tiny):
    with pytest.raises(ValueError, match="more than the values of their weights"):
        Patch.between(tiny.model, Patch(outputs={"image": image_map(tiny.model)}).apply(tiny.model))


def test_a_patch_for_other_weights_is_refused(tiny_clip, tiny_dual):
    patch = dataclasses.replace(weight_patch(tiny_clip.model), origin=origin(tiny_clip.model))
    patch.apply(tiny_clip.model)
    for refuses in (patch.apply, patch.folded):
        with pytest.raises(
            WeightsError, match=r"made for tiny \(.{12}\), not for .* Apply it to the model it was made"
        ):
            refuses(tiny_dual.model)


def test_a_name_that_the_model_lacks_is_refused(tiny):
    with pytest.raises(WeightsError, match=r"no weight 'nowhere'\. Apply the patch to the model it was made for\.$"):
        Patch(deltas={"nowhere": torch.zeros(1)}).apply(tiny.model)


@pytest.mark.parametrize("shape", [(1,), (3, 5), (1, 1)])
def test_a_change_of_another_shape_is_refused(tiny, shape):
    name = tiny.model.adapter.text.readout.weight
    with pytest.raises(WeightsError, match=r"has another shape\. Apply it to the model it was made for\.$"):
        Patch(deltas={name: torch.zeros(shape)}).apply(tiny.model)


def test_an_empty_patch_changes_nothing(tiny):
    patch = Patch(reason="Nothing helped.")
    assert patch.empty
    assert patch.portable
    assert patch.touches == ()
    assert patch.survived(tiny.model) == 1.0
    assert patch.apply(tiny.model).fingerprint == tiny.model.fingerprint


def with_bias(model: Model) -> Model:
    """Return the model with a bias on its image readout, which CLIP itself has not."""
    import copy

    module = copy.deepcopy(model.module)
    old = module.visual_projection
    new = torch.nn.Linear(old.in_features, old.out_features, bias=True).requires_grad_(False)
    new.weight, new.bias[:] = old.weight, draw(old.out_features, seed=9)
    module.visual_projection = new
    image = dataclasses.replace(
        model.adapter.image, readout=Readout(weight="visual_projection.weight", bias="visual_projection.bias")
    )
    return dataclasses.replace(model, module=module, adapter=dataclasses.replace(model.adapter, image=image))
