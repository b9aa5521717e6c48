"""Training the last layers alone: the same steps as with everything else held, far fewer passes, nothing else moved."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from descent_cases import SHORT, captioned_request, labelled_request, take_the_last_state

from clip_unlearn import methods
from clip_unlearn.core.config import build as built
from clip_unlearn.core.descent import gradient, readout_weights
from clip_unlearn.core.embedding_map import reach
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import SettingError
from clip_unlearn.methods import _training
from clip_unlearn.methods.cliperase import Cliperase, loss_of

ON_PAIRS = (
    "bad_teacher", "cliperase", "contrastive_unlearning", "fine_tune", "ga", "graddiff", "multidelete", "munba",
    "negmerge", "npo", "pbu", "random_label", "razor", "salun",
)  # fmt: skip
ON_PIXELS = ("emmn", "jit", "unsir")


def settings(towers: str = "both", **changed: Any) -> Descent:
    return Descent(**{**SHORT.model_dump(), "depth": "readout", "towers": towers, **changed})


def build(name: str, **rest: Any) -> Method:
    return methods.find(name)(**rest)


@pytest.mark.parametrize("towers", ["both", "image", "text"])
def test_its_gradient_is_that_of_the_whole_model(tiny_clip, tmp_path, towers):
    """Within rounding: pictures and sentences are run through the rest one by one."""
    pairs, method = pairs_of(tiny_clip.model, labelled_request(tmp_path)), Cliperase()
    found = []
    for depth in ("encoder", "readout"):
        how = settings(towers, depth=depth)
        task = _training.task_of(method, pairs, lambda step: loss_of(method, step), how)
        names = readout_weights(tiny_clip.model, how.towers)
        leaves = {name: task.wide.weights[name].detach().clone().requires_grad_() for name in task.weights}
        loss, slope = gradient(task, how, leaves, 0)
        found.append((loss, {name: slope[name] for name in names}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[1][1].keys() == found[0][1].keys()
    assert len(found[1][1]) == (2 if towers == "both" else 1)
    for name, slope in found[1][1].items():
        torch.testing.assert_close(slope, found[0][1][name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ON_PAIRS)
def test_every_method_on_pairs_changes_last_layers_alone(tiny_clip, tmp_path, monkeypatch, name):
    take_the_last_state(monkeypatch)
    model = tiny_clip.model
    patch = build(name, descent=settings()).forget(model, labelled_request(tmp_path))
    assert patch.deltas.keys() <= set(readout_weights(model, "both"))
    assert patch.deltas
    patch.apply(model)


@pytest.mark.parametrize("name", ON_PIXELS)
def test_methods_that_learn_from_pixels_refuse(name):
    with pytest.raises(ValueError, match=r"give descent\.depth=encoder"):
        build(name, descent=settings())


def test_the_refusal_is_one_line():
    with pytest.raises(SettingError) as error:
        built(methods.find("jit"), {"descent": {"depth": "readout"}}, where="--set")
    assert str(error.value) == (
        "--set: descent is not usable: this method learns from pixels, which a last layer never sees; "
        "give descent.depth=encoder. Change it."
    )


@pytest.mark.parametrize("make", [labelled_request, captioned_request], ids=["classes", "captions"])
def test_no_step_runs_an_image_tower(tiny_clip, tmp_path, monkeypatch, make: Callable[..., Any]):
    """All images are run once before the first one, and by the next request not at all."""
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path / "cache"))
    shown: list[int] = []
    vision, request = tiny_clip.model.module.vision_model, make(tmp_path / "images")
    hook = vision.register_forward_pre_hook(
        lambda _module, _inputs, given: shown.append(len(given["pixel_values"])), with_kwargs=True
    )
    for steps in (1, 20):
        Cliperase(descent=settings(steps=steps, patience=20)).forget(tiny_clip.model, request)
    hook.remove()
    assert sum(count for count in shown if count > 1) == 32  # A blank picture alone tells which weights count.


def test_the_patch_is_the_same_twice(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), Cliperase(descent=settings())
    first, again = (method.forget(tiny_clip.model, request).deltas for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("depth", ["encoder", "readout"])
def test_looks_run_no_tower_that_is_not_trained(tiny_clip, tmp_path, monkeypatch, depth):
    """They find the same with the embeddings of before."""
    pairs = pairs_of(tiny_clip.model, labelled_request(tmp_path))
    shown: list[int] = []
    for call in ("images", "image_features"):
        own = getattr(Model, call)
        monkeypatch.setattr(Model, call, lambda model, some, own=own: shown.append(len(some)) or own(model, some))
    task = _training.task_of(Cliperase(), pairs, lambda step: loss_of(Cliperase(), step), settings("text", depth=depth))
    assert task.examine is not None
    weight = tiny_clip.model.weights["text_projection.weight"]
    edited = tiny_clip.model.replace({"text_projection.weight": weight.roll(1, 0)})
    quick = task.examine(edited)
    assert not shown
    slow = pairs.examine(edited)
    assert shown
    assert quick.forget_probability == pytest.approx(slow.forget_probability, abs=1e-6)
    assert (quick.forget_hits, quick.retain_hits) == (slow.forget_hits, slow.retain_hits)


def test_only_the_readouts_are_reached(tiny_clip, tmp_path, monkeypatch):
    """No change below them, so every stored feature is still good."""
    take_the_last_state(monkeypatch)
    model = tiny_clip.model
    patch = Cliperase(descent=settings()).forget(model, labelled_request(tmp_path))
    assert reach(patch, model).depth == "readout"
    assert reach(patch, model).towers == ("image", "text")
