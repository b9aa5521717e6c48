"""Which weights may be trained, in every family, without a library's names."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from clip_unlearn.core.record import Source
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.models import openclip
from clip_unlearn.models.open import open_model

LEFT_OUT = {
    "tiny_clip": (
        "text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight",
        "text_model.final_layer_norm.weight", "text_model.final_layer_norm.bias", "text_projection.weight",
        "logit_scale",
    ),
    "tiny_dual": (
        "text_model.embeddings.word_embeddings.weight", "text_model.embeddings.position_embeddings.weight",
        "text_model.embeddings.token_type_embeddings.weight", "text_projection.weight", "logit_scale",
    ),
    "tiny_openclip": (
        "token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias", "text_projection",
        "logit_scale",
    ),
    "tiny_openclip_custom": (
        "text.token_embedding.weight", "text.positional_embedding", "text.ln_final.weight", "text.ln_final.bias",
        "text.text_projection", "logit_scale",
    ),
}  # fmt: skip
"""Of each family, all parameters that are published exclusions, but for batch normalisations and unused ones."""

IMAGE = {"tiny_clip": "vi", "tiny_dual": "vi", "tiny_openclip": "visual.", "tiny_openclip_custom": "visual."}
"""How the names of each image tower begin."""


@pytest.mark.parametrize("family", LEFT_OUT)
def test_all_but_the_published_exclusions_may_be_selected(request, family):
    model = request.getfixturevalue(family).model
    towers, parameters = tower_tensors(model), dict(model.module.named_parameters())
    norms = {name for name in parameters if ".normalization." in name}
    assert bool(norms) == (family == "tiny_dual")
    assert {*towers["image"], *towers["text"]} == parameters.keys() - {*LEFT_OUT[family]} - norms
    assert all(name.startswith(IMAGE[family]) for name in towers["image"])
    assert not any(name.startswith(IMAGE[family]) for name in towers["text"])


def test_class_and_position_embeddings_and_projection_of_an_image_transformer_may_be_selected(tiny_clip):
    assert {
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.position_embedding.weight",
        "vision_model.embeddings.patch_embedding.weight",
        "visual_projection.weight",
    } <= {*tower_tensors(tiny_clip.model)["image"]}


def test_the_text_projection_on_request(tiny):
    plain, wide = (tower_tensors(tiny.model, projections=projections) for projections in (False, True))
    assert {*wide["text"]} - {*plain["text"]} == {tiny.model.readout("text").weight}
    assert wide["image"] == plain["image"]


def test_no_batch_normalisation_is_touched():
    model = open_model("sandbox-conv")
    kinds = {name: part for name, part in model.module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert kinds
    towers = tower_tensors(model)
    assert not {name.rpartition(".")[0] for name in (*towers["image"], *towers["text"])} & kinds.keys()


def test_without_convolutions_a_convolutional_tower_keeps_its_projection(tiny_dual):
    assert tower_tensors(tiny_dual.model, convolutions=False)["image"] == ("visual_projection.weight",)


def test_without_convolutions_an_attention_pool_keeps_its_eight_weights(tiny_openclip):
    """As published for a ResNet: weights and biases of query, key, value and output, and nothing else."""
    open_clip = pytest.importorskip("open_clip")
    with torch.random.fork_rng(devices=[]):
        tower = open_clip.modified_resnet.ModifiedResNet(
            layers=[1, 1, 1, 1], output_dim=16, heads=2, image_size=32, width=8
        )
    module = copy.deepcopy(tiny_openclip.module)
    module.visual = tower
    tower.preprocess_cfg = tiny_openclip.module.visual.preprocess_cfg
    model = openclip.wrap(module, tiny_openclip.tokenizer, tiny_openclip.processor, source=Source(where="resnet"))
    wanted = {f"visual.attnpool.{part}_proj.{kind}" for part in "qkvc" for kind in ("weight", "bias")}
    assert {*tower_tensors(model, convolutions=False)["image"]} == wanted
    assert len(tower_tensors(model)["image"]) > len(wanted)


def test_a_tied_weight_has_one_name(tiny_clip):
    module = copy.deepcopy(tiny_clip.module)
    layers = module.text_model.encoder.layers
    layers[1].mlp.fc1.weight = layers[0].mlp.fc1.weight
    names = tower_tensors(dataclasses.replace(tiny_clip.model, module=module))["text"]
    tied = [name for name in names if name.endswith("mlp.fc1.weight")]
    assert tied == ["text_model.encoder.layers.0.mlp.fc1.weight"]


def test_the_model_stays_as_it_was_while_its_weights_are_sorted(tiny):
    before = [weight.requires_grad for weight in tiny.module.parameters()]
    tower_tensors(tiny.model)
    assert [weight.requires_grad for weight in tiny.module.parameters()] == before
    assert all(weight.grad is None for weight in tiny.module.parameters())
