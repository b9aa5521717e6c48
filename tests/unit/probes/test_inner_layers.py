"""Alignment of blocks on models of which is known where they differ."""

from pathlib import Path

import pytest
import torch
from known import DATA, REQUEST, SUPPORT, original, readings
from painted import paint

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import UndefinedError
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.audit.inner_layers import InnerLayers

AUDIT = InnerLayers(data=DATA, support=SUPPORT, images=34, draws=20)


def test_an_edit_of_the_last_layer_leaves_all_blocks_as_they_were() -> None:
    found = readings(AUDIT, "shallow")
    assert {one.name for one in found} == {"forget alignment", "retain alignment"}
    assert [one.of for one in found if one.name == "forget alignment"] == [
        f"vision_model.encoder.layers.{place}" for place in range(4)
    ]
    assert all((one.value, one.low) == pytest.approx((1, 1)) for one in found)
    assert all(one.count == 34 for one in found)


def test_a_model_that_never_saw_the_class_is_further_away_on_it() -> None:
    found = {(one.name, one.of[-1]): one for one in readings(AUDIT, "ignorant")}
    assert found["forget alignment", "3"].value < found["forget alignment", "0"].value
    assert found["forget alignment", "3"].value < found["retain alignment", "3"].value < 1


def test_only_blocks_from_the_changed_one_on_move() -> None:
    """The weights of the third block are scaled; what lies before it gives the same."""
    name = "vision_model.encoder.layers.2.mlp.fc1.weight"
    changed = original().replace({name: -original().weights[name]})
    values = {one.of[-1]: one.value for one in AUDIT.measure(original(), changed, REQUEST) if "forget" in one.name}
    assert (values["0"], values["1"]) == pytest.approx((1, 1))
    assert values["2"] < 0.999
    assert not any(module._forward_hooks for module in original().module.modules())


def test_a_tower_without_blocks(painter: Model, tmp_path: Path) -> None:
    where = paint(tmp_path / "photos", {"red": ["red"] * 3, "green": ["green"] * 3})
    teach = paint(tmp_path / "teach", {"green": ["green"] * 3}, mark=9)
    asked = Request(forget=(Concept(name="red"),), retain=("green",))
    with pytest.raises(UndefinedError, match="no blocks"):
        InnerLayers(data=where, split="all", support=teach).measure(painter, painter, asked)


def test_convolutions_are_averaged_over_places() -> None:
    model = open_model("sandbox-conv")
    found = InnerLayers(data=DATA, support=SUPPORT, images=10, draws=20).measure(model, model, REQUEST)
    assert len(found) > 20
    assert all(one.value == pytest.approx(1) for one in found)
    assert torch.isfinite(torch.tensor([one.low for one in found])).all()
