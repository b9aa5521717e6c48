"""Structural copies: new structure, shared tensors, ties and gradients as they were."""

import copy

import pytest
import torch
from torch import nn

from clip_unlearn.core.copies import named_tensors, with_tensors


class Tied(nn.Module):
    """Two layers with one weight, a saved buffer and an unsaved one."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.settings = {"width": 3}
        self.requires_grad_(False)

    def forward(self, rows):
        return self.second(self.first(rows) * self.mask)


@pytest.fixture
def module():
    return Tied()


def test_names_are_those_of_the_state_dict_and_tensors_are_themselves(module):
    named = named_tensors(module)
    assert named.keys() == module.state_dict().keys()
    assert named["second.weight"] is module.first.weight
    assert "mask" not in named


def test_everything_not_named_is_shared(module):
    edited = with_tensors(module, {"first.bias": torch.ones(3)})
    assert edited is not module
    assert edited.first is not module.first
    assert edited.first.weight is module.first.weight
    assert edited.mask is module.mask
    assert edited.count is module.count
    assert torch.equal(edited.first.bias, torch.ones(3))


def test_the_original_does_not_change(module):
    before = copy.deepcopy(module.state_dict())
    edited = with_tensors(module, {"first.weight": torch.zeros(3, 3)})
    edited.settings["width"] = 4
    assert module.settings == {"width": 3}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("name", ["first.weight", "second.weight"])
def test_ties_stay_tied(module, name):
    edited = with_tensors(module, {name: torch.zeros(3, 3)})
    assert edited.first.weight is edited.second.weight
    assert edited.first.weight is not module.first.weight


def test_a_plain_tensor_becomes_a_frozen_parameter(module):
    bias = with_tensors(module, {"first.bias": torch.ones(3)}).first.bias
    assert isinstance(bias, nn.Parameter)
    assert not bias.requires_grad
    assert not isinstance(with_tensors(module, {"count": torch.ones(1)}).count, nn.Parameter)


def test_a_leaf_gets_its_gradient_through_the_copy(module):
    leaf = module.first.bias.detach().clone().requires_grad_()
    edited = with_tensors(module, {"first.bias": leaf})
    assert edited.first.bias is leaf
    edited(torch.ones(2, 3)).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0
    assert module.first.bias.grad is None


def test_a_node_passes_its_gradient_on(module):
    scale = torch.tensor(0.5, requires_grad=True)
    edited = with_tensors(module, {"first.weight": module.first.weight * scale})
    edited(torch.ones(2, 3)).sum().backward()
    assert scale.grad is not None


def test_no_change_is_a_copy_that_acts_alike(module):
    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(with_tensors(module, {})(rows), module(rows))


def test_an_unknown_name_is_refused(module):
    with pytest.raises(KeyError, match=r"third\.weight"):
        with_tensors(module, {"third.weight": torch.zeros(3, 3)})


def test_another_shape_is_refused(module):
    with pytest.raises(ValueError, match=r"'first\.bias' has shape \(3,\), not \(4,\)"):
        with_tensors(module, {"first.bias": torch.zeros(4)})
