"""Layers between two gradients: which weights are any, their numbers, the front, and the search for a turn."""

import math

import numpy as np
import pytest
import torch

from clip_unlearn.core.descent import trained_weights
from clip_unlearn.methods._layers import Layer, front, layer_weights, layers_of, tower_layers, turning_point


def layer(name: str, importance: float, alignment: float) -> Layer:
    return Layer(name=name, gradient=torch.zeros(1), importance=importance, alignment=alignment)


def random_gradients(model, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = trained_weights(model, "both")
    return {name: torch.randn(model.weights[name].shape, generator=generator) for name in names}


def test_what_is_only_added_is_no_layer(tiny_clip):
    model = tiny_clip.model
    names = trained_weights(model, "both")
    found = layer_weights(model, names)
    assert {name for name in names if name not in found} == {
        *(name for name in names if name.endswith(".bias")),
        "text_model.embeddings.token_embedding.weight",
        "text_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.class_embedding",
    }
    assert "vision_model.embeddings.patch_embedding.weight" in found
    assert list(found) == [name for name in names if name in found]


def test_parameters_without_a_module_of_their_own_are_told_by_name(tiny_openclip):
    model = tiny_openclip.model
    names = trained_weights(model, "both")
    found = layer_weights(model, names)
    assert {"visual.proj", "text_projection", "visual.conv1.weight", "visual.ln_pre.weight"} <= set(found)
    assert "visual.transformer.resblocks.0.attn.in_proj_weight" in found
    left_out = {"positional_embedding", "visual.positional_embedding", "visual.class_embedding"}
    left_out |= {"token_embedding.weight", "visual.transformer.resblocks.0.attn.in_proj_bias"}
    assert left_out <= set(names)
    assert left_out.isdisjoint(found)


def test_numbers_of_a_layer(tiny):
    model = tiny.model
    forget, retain = random_gradients(model, 1), random_gradients(model, 2)
    found = layers_of(model, tuple(forget), forget, retain)
    assert [one.name for one in found] == list(layer_weights(model, tuple(forget)))
    for one in found:
        weight, first, second = (
            tensors[one.name].detach().double().numpy().ravel() for tensors in (model.weights, forget, retain)
        )
        length = math.sqrt(sum(first * first))
        assert one.importance == pytest.approx(length / math.sqrt(sum(weight * weight)), rel=1e-9)
        cosine = sum(first * second) / (length * math.sqrt(sum(second * second)))
        assert one.alignment == pytest.approx(cosine, abs=1e-9)
        assert torch.equal(one.gradient, forget[one.name])


def test_layers_without_size_or_direction_are_left_out(tiny_clip):
    model, (still, empty, free) = (
        tiny_clip.model,
        layer_weights(tiny_clip.model, trained_weights(tiny_clip.model, "image"))[:3],
    )
    model = model.replace({empty: torch.zeros_like(model.weights[empty])})
    forget, retain = random_gradients(model, 1), random_gradients(model, 2)
    forget[still], retain[free] = torch.zeros_like(forget[still]), torch.zeros_like(retain[free])
    found = layers_of(model, (still, empty, free), forget, retain)
    assert [(one.name, one.alignment) for one in found] == [(free, 0.0)]


def test_each_layer_belongs_to_the_tower_that_it_changes(tiny):
    model = tiny.model
    gradients = random_gradients(model, 1)
    image, text = ([one.name for one in layers] for layers in tower_layers(model, gradients, gradients))
    assert set(image) == set(layer_weights(model, trained_weights(model, "image")))
    assert set(text) == set(layer_weights(model, trained_weights(model, "text")))
    some = {name: gradients[name] for name in image[:2]}
    assert tower_layers(model, some, some)[1] == ()
    assert [one.name for one in tower_layers(model, some, some)[0]] == image[:2]


def test_a_layer_of_both_towers_is_counted_once(tiny_clip, monkeypatch):
    names = layer_weights(tiny_clip.model, trained_weights(tiny_clip.model, "both"))[:3]
    gradients = {name: torch.ones_like(tiny_clip.model.weights[name]) for name in names}
    given = {"image": names[:2], "text": names[1:]}
    monkeypatch.setattr("clip_unlearn.methods._layers.trained_weights", lambda _, tower: given[tower])
    image, text = tower_layers(tiny_clip.model, gradients, gradients)
    assert [one.name for one in (*image, *text)] == list(names)
    assert len(image) == 2


def test_the_front_is_what_no_other_layer_beats():
    layers = (
        layer("strong", 3.0, 0.5),
        layer("weaker", 2.0, 0.6),
        layer("free", 0.1, -0.01),
        layer("opposed", 1.0, -0.3),
        layer("like opposed", 1.0, 0.3),
        layer("as strong but less free", 3.0, -0.7),
    )
    assert [one.name for one in front(layers)] == ["strong", "free", "opposed", "like opposed"]
    assert front(()) == ()


@pytest.mark.parametrize("seed", range(5))
def test_the_front_of_random_layers(seed):
    random = np.random.default_rng(seed)
    layers = [layer(str(place), float(random.random()), float(random.uniform(-1, 1))) for place in range(40)]
    wanted, best = [], -1.0
    for one in sorted(layers, key=lambda each: abs(each.alignment)):
        if one.importance > best:
            wanted.append(one.name)
            best = one.importance
    assert sorted(one.name for one in front(layers)) == sorted(wanted)
    assert len(wanted) > 1


@pytest.mark.parametrize(
    ("turn", "doublings", "bisections", "wanted"),
    [
        (5.0, 3, 0, (4.0, 8.0)),
        (5.0, 3, 2, (4.0, 5.0)),
        (8.0, 3, 1, (6.0, 8.0)),
        (8.5, 3, 4, (8.0, None)),
        (0.3, 3, 2, (0.25, 0.5)),
        (0.1, 0, 1, (0.0, 0.5)),
        (1.5, 0, 3, (1.0, None)),
    ],
)
def test_the_turning_point(turn, doublings, bisections, wanted):
    assert turning_point(lambda value: value >= turn, 1.0, doublings=doublings, bisections=bisections) == wanted


def test_every_value_is_looked_at_once():
    looks = []

    def turned(value: float) -> bool:
        looks.append(value)
        return value > 0.7

    low, high = turning_point(turned, 0.1, doublings=9, bisections=10)
    assert looks[:4] == [0.1, 0.2, 0.4, 0.8]
    assert len(looks) == len(set(looks)) == 14
    assert low <= 0.7 < high
    assert high - low == pytest.approx(0.4 / 2**10)
