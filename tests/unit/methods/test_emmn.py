"""Noise for every class: the loss, what each setting changes, and what is forgotten without a single image."""

import pytest
import torch
from descent_cases import check_gradient, check_same_bytes, cross_entropy, fake_step, reached

from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.training import Descent
from clip_unlearn.data.answers import answers
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.methods import emmn
from clip_unlearn.methods.emmn import Emmn, loss_of
from clip_unlearn.sandbox.classes import CLASS_NAMES

REQUEST = Request(forget=(Concept(name="cat"),), retain=("dog", "mug", "bird"))
QUICK = {"noises": 2, "forget_noise_steps": 3, "retain_noise_steps": 3}
SHORT = Descent(**{**Emmn().descent.model_dump(), "steps": 3, "forget_batch": 2, "retain_batch": 4})


@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(1.0, 1.0), (0.5, 0.0), (2.0, 3.0)])
def test_the_loss_is_the_formula(forget_weight, retain_weight):
    step = fake_step()
    found = float(loss_of(Emmn(forget_weight=forget_weight, retain_weight=retain_weight), step).detach())
    called = cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    assert found == pytest.approx(forget_weight * called + retain_weight * kept, abs=1e-9)


def test_the_gradient_is_that_of_the_loss():
    method, step = Emmn(), fake_step()
    assert reached(loss_of(method, step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_noise_is_learned_for_every_class_of_the_list(tiny_clip, monkeypatch):
    calls, real = [], emmn.learned

    def learned(model, request, names, places, how):
        calls.append((names, tuple(places), how))
        return real(model, request, names, places, how)

    monkeypatch.setattr(emmn, "learned", learned)
    settings = {"noises": 3, "forget_noise_steps": 2, "retain_noise_steps": 4, "noise_rate": 0.05, "penalty": 0.3}
    request = Request(forget=(Concept(name="cat"), Concept(name="car")), retain=("dog", "mug"))
    Emmn(**settings, descent=SHORT).forget(tiny_clip.model, request)
    (names, gone, worst), (_, stay, best) = calls
    assert (names, gone, stay) == (("cat", "car", "dog", "mug"), (0, 1), (2, 3))
    assert (worst.count, worst.steps, worst.rate, worst.maximise, worst.penalty) == (3, 2, 0.05, True, 0.3)
    assert (best.count, best.steps, best.rate, best.maximise, best.penalty) == (3, 4, 0.05, False, 0.0)


def test_the_published_noise_is_the_default():
    method = Emmn()
    assert (method.noises, method.forget_noise_steps, method.retain_noise_steps) == (4, 25, 30)
    assert (method.noise_rate, method.penalty) == (0.1, 0.1)


def test_names_alone_give_the_same_patch_again_and_the_image_tower_stays(tiny_clip):
    patch = check_same_bytes(Emmn(**QUICK, descent=SHORT), tiny_clip.model, REQUEST)
    assert not any("vision" in name or "visual" in name for name in patch.deltas)
    assert not patch.reason
    both = Emmn(**QUICK, descent=Descent(**{**SHORT.model_dump(), "towers": "both"}))
    assert any("vision" in name for name in both.forget(tiny_clip.model, REQUEST).deltas)


def test_batches_have_the_size_that_is_asked_for(tiny_clip, monkeypatch):
    seen = []

    def watched(method, step):
        seen.append((len(step.forget.labels), len(step.retain.labels), step.forgotten, len(step.names)))
        return loss_of(method, step)

    monkeypatch.setattr(emmn, "loss_of", watched)
    Emmn(**QUICK, descent=SHORT).forget(tiny_clip.model, REQUEST)
    assert seen == [(2, 4, 1, 4)] * 3


def test_background_stands_in_for_names_to_retain(tiny_clip):
    method = Emmn(**QUICK, descent=SHORT)
    asked = Request(forget=REQUEST.forget, background=REQUEST.retain)
    found, wanted = (method._task(tiny_clip.model, each, ("cat", *REQUEST.retain)) for each in (asked, REQUEST))
    assert found.feed(0).names == wanted.feed(0).names
    assert method.forget(tiny_clip.model, asked).deltas
    both = Request(forget=REQUEST.forget, retain=("dog",), background=("mug", "bird"))
    with pytest.MonkeyPatch.context() as patcher:
        lists = []
        patcher.setattr(Emmn, "_task", lambda self, model, request, names: lists.append(names) or wanted)
        method.forget(tiny_clip.model, both)
    assert lists == [("cat", "dog")]


def test_without_names_to_retain_there_is_nothing_to_tell_apart(tiny_clip):
    method, alone = Emmn(**QUICK, descent=SHORT), Request(forget=REQUEST.forget)
    for refused in (method.check, method.forget):
        with pytest.raises(UnsupportedError, match="Give --retain"):
            refused(tiny_clip.model, alone)


@pytest.mark.parametrize(
    "settings", [{"noises": 0}, {"forget_weight": 0.0}, {"penalty": -1.0}, {"noise_rate": 0.0}, {"retain_weight": -1.0}]
)
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Emmn(**settings)


def test_a_class_of_the_embedded_world_is_forgotten_without_images(sandbox_model):
    retain = tuple(name for name in CLASS_NAMES if name != "mug")
    request = Request(forget=(Concept(name="mug"),), retain=retain)
    descent = Descent(**{**Emmn().descent.model_dump(), "steps": 30})
    method = Emmn(noises=1, forget_noise_steps=15, retain_noise_steps=15, descent=descent)
    edited = method.forget(sandbox_model, request).apply(sandbox_model)
    images = open_data("sandbox:photo@stop")
    images = images.take(place for place, name in enumerate(images.keys) if int(name[-4:]) < 5)
    asked = torch.tensor(images.labels) == images.class_index("mug")
    hits = [answers(each, images, request).ranks == 1 for each in (sandbox_model, edited)]
    assert int(hits[0][asked].sum()) >= 4
    assert int(hits[1][asked].sum()) <= 1
    assert float(hits[1][~asked].float().mean()) > 0.8
