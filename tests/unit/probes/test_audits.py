"""Attacks on models of which is known what they hold: an edit of the last layer, and one that never saw the class."""

import shutil
from pathlib import Path

import pytest
import torch
from known import DATA, REQUEST, SUPPORT, original, readings, shallow, value
from painted import paint

from clip_unlearn.core.attacks import POWER
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model, TowerName
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError, UndefinedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.audit._scene import hidden, open_scene, open_support
from clip_unlearn.probes.audit._weights import last_block
from clip_unlearn.probes.audit.disclosure import Disclosure, _place
from clip_unlearn.probes.audit.fine_tuning import FineTuning
from clip_unlearn.probes.audit.image_refit import ImageRefit
from clip_unlearn.probes.audit.interpolation import Interpolation, between
from clip_unlearn.probes.audit.module_revert import ModuleRevert
from clip_unlearn.probes.audit.relearning import Relearning, _Lesson
from clip_unlearn.probes.audit.rounding import Rounding
from clip_unlearn.probes.audit.text_refit import TextRefit
from clip_unlearn.probes.evaluate.zero_shot import ZeroShot
from clip_unlearn.sandbox.classes import CLASS_NAMES

IMAGE = ImageRefit(data=DATA, support=SUPPORT, images=400)
TEXT = TextRefit(data=DATA, support=SUPPORT, images=400, shares=(0.1,))
TUNING = FineTuning(data=DATA, support=SUPPORT, steps=24, check_every=12, images=300)
REVERT, ROUND, WAY = ModuleRevert(data=DATA), Rounding(data=DATA), Interpolation(data=DATA)


KINDS = [(IMAGE, "image refit"), (TEXT, "text refit"), (REVERT, "module revert"), (TUNING, "fine-tuning")]


@pytest.mark.parametrize(("audit", "name"), KINDS)
def test_it_brings_back_what_a_last_layer_hides(audit: Audit, name: str) -> None:
    found = readings(audit, "shallow")
    before = value(found, f"worst {name} accuracy", "before")
    assert before > 0.9
    assert value(found, f"{name} accuracy", "control", "without the attack") < 0.1
    assert value(found, f"worst {name} accuracy", "control") >= POWER * before
    assert value(found, f"worst {name} accuracy", "after") > 0.9


@pytest.mark.parametrize(("audit", "name"), KINDS)
def test_it_brings_nothing_back_that_was_never_there(audit: Audit, name: str) -> None:
    assert value(readings(audit, "ignorant"), f"worst {name} accuracy", "after") < 0.5


def test_an_edit_of_the_layer_does_not_enter_a_fit_from_nothing() -> None:
    """Which is why every edit of that layer alone has the score of the original."""
    form = "to class names, 0.1"
    edited, plain = readings(IMAGE, "shallow"), readings(IMAGE, "original")
    assert value(edited, "image refit accuracy", "after", form) == value(plain, "image refit accuracy", "after", form)


def test_a_fit_from_the_layer_itself_stays_near_it() -> None:
    stiff = ImageRefit(data=DATA, support=SUPPORT, images=400, shares=(0.1, 1000.0))
    found = stiff.measure(original(), shallow(), REQUEST)
    assert value(found, "image refit accuracy", "after", "to class names, from its layer, 1000") < 0.1
    assert value(found, "image refit accuracy", "after", "to class names, 0.1") > 0.9


def test_an_edit_of_the_text_layer_is_brought_back_by_a_fit_to_images() -> None:
    hidden = Redirect(side="text").forget(original(), REQUEST).folded(original()).apply(original())
    found = TEXT.measure(original(), hidden, REQUEST)
    assert value(found, "text refit accuracy", "after", "to images, 0.1") > 0.9
    assert value(found, "text refit accuracy", "after", "to the original's embeddings, 0.1") > 0.9


def test_an_edit_of_both_layers_is_brought_back_by_fitting_both() -> None:
    one = Redirect().forget(original(), REQUEST).folded(original()).apply(original())
    both = Redirect(side="text").forget(original(), REQUEST).folded(original())
    both = one.replace({name: weight for name, weight in both.apply(original()).weights.items() if name in both.deltas})
    found = TEXT.measure(original(), both, REQUEST)
    assert value(found, "text refit accuracy", "after", "both layers to the original's embeddings, 0.1") > 0.9


def test_only_what_was_changed_is_put_back() -> None:
    tried = {one.of for one in readings(REVERT, "shallow") if one.subject == "after"}
    assert tried == {"visual_projection", "the whole image tower", "the whole text tower"}
    tensors = ModuleRevert(data=DATA, each="tensor").measure(original(), shallow(), REQUEST)
    assert "visual_projection.weight" in {one.of for one in tensors}


def test_a_whole_tower_is_put_back_beside_the_worst_module() -> None:
    found = readings(REVERT, "shallow")
    assert value(found, "module revert accuracy", "after", "the whole image tower") > 0.9
    assert value(found, "module revert accuracy", "after", "the whole text tower") < 0.1


def test_a_map_of_the_output_is_a_module() -> None:
    null = AffineMap(down=torch.eye(64), up=-torch.eye(64))
    found = REVERT.measure(original(), original().replace(outputs={"image": null}), REQUEST)
    assert value(found, "module revert accuracy", "after", "output:image") > 0.9


def test_nothing_to_put_back() -> None:
    with pytest.raises(UndefinedError, match="nothing was changed"):
        REVERT.measure(original(), original(), REQUEST)


def test_a_patch_gives_the_name_away() -> None:
    found = readings(Disclosure(data=DATA, support=SUPPORT), "shallow")
    assert value(found, "disclosure rank by order", "after", "the last image layer") <= 2
    assert value(found, "disclosure rank by order", "after", "scores") <= 2
    assert value(found, "disclosure rank", "after") == 1
    assert {one.count for one in found} == {1 + len(REQUEST.retain) + len(REQUEST.background)}
    assert "texts" not in {one.of for one in found}  # they did not change


def test_a_text_edit_gives_the_name_away_by_its_texts() -> None:
    edited = Redirect(side="text").forget(original(), REQUEST).folded(original()).apply(original())
    found = Disclosure(data=DATA).measure(original(), edited, REQUEST)
    assert {one.of: one.value for one in found if one.name == "disclosure rank by order"} == {"texts": 1}


def test_names_before_the_forgotten_one_are_counted() -> None:
    scores = torch.tensor([0.2, 0.3, 0.9, 0.3, 0.1])
    assert _place(scores, 2) == 3
    with pytest.raises(UndefinedError, match="nothing to read"):
        Disclosure(data=DATA, support=SUPPORT).measure(original(), original(), REQUEST)


def test_rounding_undoes_a_change_below_its_steps_and_no_large_one() -> None:
    assert value(readings(ROUND, "shallow"), "worst rounding accuracy", "after") < 0.1
    assert value(readings(ROUND, "shallow"), "largest change in half steps", "after", "4 bits") > 1
    assert value(readings(ROUND, "original"), "worst rounding accuracy", "after") > 0.9


def test_every_form_of_rounding_is_tried() -> None:
    forms = {one.of for one in readings(ROUND, "shallow") if one.name == "rounding accuracy" and one.subject == "after"}
    assert {"8 bits", "4 bits", "3 bits", "bfloat16", "float16", "without 50% of the entries"} < forms


def test_the_weights_are_really_changed() -> None:
    """Almost no entry left recognises nothing, eight bits everything."""
    found = Rounding(data=DATA, bits=(8,), prune=(0.99,)).measure(original(), original(), REQUEST)
    assert value(found, "rounding accuracy", "after", "without 99% of the entries") < 0.2
    assert value(found, "rounding accuracy", "after", "8 bits") > 0.9


def test_the_way_back() -> None:
    found = readings(WAY, "shallow")
    assert value(found, "worst interpolation accuracy", "after") < 0.1
    assert value(found, "interpolation accuracy", "after", "80% of the way back") > 0.9
    half = between(original(), shallow(), 0.5).weights["visual_projection.weight"]
    ends = [model.weights["visual_projection.weight"] for model in (original(), shallow())]
    torch.testing.assert_close(half, (ends[0] + ends[1]) / 2)


def test_maps_of_outputs_go_back_too() -> None:
    null = AffineMap(down=torch.eye(64), up=-torch.eye(64))
    mapped = original().replace(outputs={"image": null})
    back = between(original(), mapped, 0.5).outputs["image"]
    assert torch.equal(back(torch.ones(1, 64)), torch.full((1, 64), 0.5))
    with pytest.raises(UndefinedError, match="both models map"):
        between(original().replace(outputs={"image": null.scaled(0.5)}), mapped, 0.5)


def test_training_on_other_classes_is_looked_at_all_the_way() -> None:
    found = readings(TUNING, "shallow")
    looks = [one.of for one in found if (one.name, one.subject) == ("fine-tuning accuracy", "after")]
    assert looks == ["rate 0.005, 12 steps", "rate 0.005, 24 steps"]


def test_the_last_blocks_are_what_is_trained() -> None:
    names = last_block(original())
    blocks = {".".join(name.split(".")[:4]) for name in names if ".layers." in name}
    assert blocks == {"vision_model.encoder.layers.3", "text_model.encoder.layers.1"}
    assert {name for name in names if ".layers." not in name} == {"visual_projection.weight", "text_projection.weight"}
    whole = TUNING.model_copy(update={"depth": "all"}).measure(original(), shallow(), REQUEST)
    assert value(whole, "worst fine-tuning accuracy", "after") > 0.9
    assert set(last_block(open_model("sandbox-conv"))) < set(open_model("sandbox-conv").weights)


RELEARN = Relearning(data=DATA, support=SUPPORT, draws=2, steps=30)


def test_what_is_held_below_is_learned_again_sooner() -> None:
    name = "5-shot relearning steps"
    assert value(readings(RELEARN, "original"), name, "after") == 0
    shallow, ignorant = (value(readings(RELEARN, which), name, "after") for which in ("shallow", "ignorant"))
    assert 0 < shallow < ignorant


def test_the_steps_of_relearning_by_hand() -> None:
    """Gradient by finite differences, first step by hand, and one more than all steps where none is enough."""
    random = torch.Generator().manual_seed(0)
    rows, texts = (torch.randn(5, width, generator=random, dtype=torch.float64) for width in (4, 3))
    lesson = _Lesson(rows=rows, labels=torch.arange(5), texts=unit(texts), scale=10.0)
    start = torch.randn(4, 3, generator=random, dtype=torch.float64)
    assert torch.autograd.gradcheck(lesson.loss, (start.clone().requires_grad_(),))
    seen: list[torch.Tensor] = []
    audit = Relearning(data=DATA, support=SUPPORT, steps=2)
    assert audit._first(lesson, start, 0.01, lambda matrix: seen.append(matrix) or False) == 3
    gradient = torch.func.grad(lesson.loss)(start)
    size = float(start.square().mean().sqrt())
    assert torch.allclose(seen[1], start - 0.01 * size * gradient.sign(), atol=1e-6)
    assert audit._first(lesson, start, 0.01, lambda _: True) == 0


def test_nothing_to_learn_again(painter: Model, tmp_path: Path) -> None:
    where = paint(tmp_path / "photos", {"red": ["green"], "green": ["green"]})
    teach = paint(tmp_path / "teach", {"red": ["red"] * 5, "green": ["green"] * 5}, mark=9)
    asked = Request(forget=(Concept(name="red"),), retain=("green",))
    with pytest.raises(UndefinedError, match="recognises none"):
        Relearning(data=where, split="all", support=teach).measure(painter, painter, asked)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_the_control_is_hidden_and_holds_the_rest(tower: TowerName) -> None:
    for where in ("sandbox", "sandbox-conv"):
        model = open_model(where)
        for name in ("mug", "axe"):
            request = Request(forget=(Concept(name=name),), retain=tuple(one for one in CLASS_NAMES if one != name))
            control = hidden(model, request, tower)
            assert not bool(open_scene(DATA, "audit", request).hits(control).any())


def test_the_control_holds_the_rest() -> None:
    for tower in ("image", "text"):
        control = hidden(original(), REQUEST, tower)
        images = ZeroShot(data=DATA).measure(original(), control, REQUEST)
        assert value(images, "retain accuracy", "after", "") > 0.95


def test_what_is_measured_is_not_learned_from(tmp_path: Path) -> None:
    """An image can stand in two classes; those of the classes to forget are left out by class."""
    where = paint(tmp_path / "photos", {"red": ["red"] * 3, "green": ["green"] * 3})
    asked = Request(forget=(Concept(name="red"),), retain=("green",))
    scene = open_scene(where, "all", asked)
    assert len(scene.images) == 3
    assert {open_support(where, scene, 9).classes[label] for label in open_support(where, scene, 9).labels} == {"green"}
    assert len(open_support(where, scene, 2)) == 2
    shutil.copy(tmp_path / "photos" / "red" / "0.png", tmp_path / "photos" / "green" / "same.png")
    with pytest.raises(DataError, match="share an image"):
        open_support(where, open_scene(where, "all", asked), 9)


def test_without_other_images() -> None:
    with pytest.raises(UndefinedError, match="learns from images of other classes"):
        ImageRefit(data=DATA).measure(original(), shallow(), REQUEST)
    with pytest.raises(UndefinedError, match="no other name"):
        TextRefit(data=DATA, support=SUPPORT).measure(original(), shallow(), Request(forget=REQUEST.forget))
