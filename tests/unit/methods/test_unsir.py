"""Impair with noise, repair with images: both losses, how the phases follow each other, and what comes back."""

import itertools

import pytest
import torch
from descent_cases import (
    captioned_request,
    check_gradient,
    check_same_bytes,
    cross_entropy,
    fake_step,
    labelled_request,
    reached,
)

from clip_unlearn.core.marks import Mark
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Pairs, pairs_of
from clip_unlearn.errors import DataError
from clip_unlearn.methods import unsir
from clip_unlearn.methods.unsir import Unsir, impaired_of, repaired_of

SHORT = Descent(**{**Unsir().descent.model_dump(), "steps": 4, "forget_batch": 3, "retain_batch": 6})
QUICK = {"noises": 4, "noise_steps": 3, "repair_steps": 4, "descent": SHORT}


@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(1.0, 1.0), (0.5, 0.0), (2.0, 3.0)])
def test_impairing_is_the_formula(forget_weight, retain_weight):
    step = fake_step()
    found = float(impaired_of(Unsir(forget_weight=forget_weight, retain_weight=retain_weight), step).detach())
    called = cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    assert found == pytest.approx(forget_weight * called + retain_weight * kept, abs=1e-9)


def test_repairing_is_the_formula():
    step = fake_step()
    kept = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    assert float(repaired_of(step).detach()) == pytest.approx(kept, abs=1e-9)


def test_the_gradients_are_those_of_the_losses():
    method, step = Unsir(), fake_step()
    assert reached(impaired_of(method, step), step) == {"forget.images", "retain.images", "names"}
    assert reached(repaired_of(step), step) == {"retain.images", "names"}
    check_gradient(lambda each: impaired_of(method, each), fake_step)
    check_gradient(repaired_of, fake_step)


@pytest.fixture
def looks(monkeypatch):
    """Make the looks of every run find what is written here; the fifth one finds the least of the class."""
    hits = itertools.cycle((20, 15, 10, 9, 5, 7))

    def examine(self, model, **_rest):
        rest = {"forget_count": 20, "retain_hits": 9, "retain_count": 10, "forget_probability": 0.5}
        return Mark(forget_hits=next(hits), **rest)

    monkeypatch.setattr(Pairs, "examine", examine)


@pytest.fixture
def phases(monkeypatch):
    """Return a list that grows by what each phase was asked for and what it gave."""
    seen = []

    def watch(name, pick):
        real = getattr(unsir, name)

        def watched(*arguments, **rest):
            found = real(*arguments, **rest)
            seen.append({"name": name, "found": found, **pick(*arguments, **rest)})
            return found

        monkeypatch.setattr(unsir, name, watched)

    watch("learned", lambda model, request, names, places, how: {"names": names, "places": tuple(places), "how": how})
    watch("descend", lambda task, settings: {"task": task, "settings": settings})
    watch("descended", lambda method, pairs, loss, descent, *, model, stage: {"settings": descent, "model": model})
    return seen


def check_result(patch, model, found):
    """Check that the patched model is the one that a phase gave, up to rounding of the difference."""
    weights = patch.apply(model).weights
    for name, wanted in found.model.weights.items():
        torch.testing.assert_close(weights[name], wanted, rtol=0, atol=1e-6)
    assert patch.deltas


def test_the_phases_follow_each_other(tiny_clip, tmp_path, phases, looks):
    method = Unsir(**{**QUICK, "noise_rate": 0.2, "penalty": 0.3, "repair_rate": 5e-4})
    request = labelled_request(tmp_path)
    patch = method.forget(tiny_clip.model, request)
    learned, impair, repair = phases
    how = learned["how"]
    assert (learned["names"], learned["places"]) == (["cat", "bird", "car", "dog"], (0,))
    assert (how.count, how.steps, how.rate, how.maximise, how.penalty) == (4, 3, 0.2, True, 0.3)
    assert impair["settings"] == SHORT
    assert (impair["found"].best, repair["found"].best) == (2, 1)
    assert repair["model"] is impair["found"].model
    assert repair["settings"] == Descent(**{**SHORT.model_dump(), "steps": 4, "rate": 5e-4})
    check_result(patch, tiny_clip.model, repair["found"])
    shares = [(each.name, each.subject, each.value) for each in patch.readings]
    assert shares == [
        ("stop-set forget accuracy", "before", 1.0),
        ("stop-set retain accuracy", "before", 0.9),
        ("stop-set forget accuracy", "after", 0.25),
        ("stop-set retain accuracy", "after", 0.9),
    ]


def test_impairing_learns_from_noise_and_retained_images_alone(tiny_clip, tmp_path, phases):
    request = labelled_request(tmp_path)
    Unsir(**{**QUICK, "repair_steps": 0}).forget(tiny_clip.model, request)
    noises, task = phases[0]["found"], phases[1]["task"]
    pairs = pairs_of(tiny_clip.model, request)
    for number in range(4):
        inputs = task.feed(number)
        assert (len(inputs.forget.labels), len(inputs.retain.labels)) == (3, 6)
        assert all(any(torch.equal(one, other) for other in noises.pixels) for one in inputs.forget.pixels)
        assert set(inputs.retain.rows) <= set(pairs.retain)


def test_no_repair_leaves_the_impaired_state(tiny_clip, tmp_path, phases, looks):
    patch = Unsir(**{**QUICK, "repair_steps": 0}).forget(tiny_clip.model, labelled_request(tmp_path))
    assert [each["name"] for each in phases] == ["learned", "descend"]
    check_result(patch, tiny_clip.model, phases[1]["found"])
    assert patch.deltas


def test_nothing_is_repaired_where_impairing_found_no_better_state(tiny_clip, tmp_path, phases):
    still = Descent(**{**SHORT.model_dump(), "rate": 1e-12})
    patch = Unsir(**{**QUICK, "descent": still}).forget(tiny_clip.model, labelled_request(tmp_path))
    assert [each["name"] for each in phases] == ["learned", "descend"]
    assert patch.empty
    assert "No look" in patch.reason


def test_the_same_inputs_give_the_same_patch_and_the_image_tower_stays(tiny_clip, tmp_path, looks):
    patch = check_same_bytes(Unsir(**QUICK), tiny_clip.model, labelled_request(tmp_path))
    assert not any("vision" in name for name in patch.deltas)


def test_the_published_noise_is_the_default():
    method = Unsir()
    assert (method.noise_steps, method.noise_rate, method.penalty) == (25, 0.1, 0.1)


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        Unsir(**QUICK).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize(
    "settings", [{"noises": 0}, {"forget_weight": 0.0}, {"penalty": -1.0}, {"repair_steps": -1}, {"repair_rate": 0.0}]
)
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Unsir(**settings)
