"""Two teachers: what each says, and the loss against both."""

import numpy as np
import pytest
import torch
from descent_cases import (
    DOWN,
    SHORT,
    captioned_request,
    check_gradient,
    check_same_bytes,
    fake_step,
    labelled_request,
    log_probabilities,
    losses,
    mean_divergence,
    numbers,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.errors import DataError
from clip_unlearn.maths.unlearning import shuffled
from clip_unlearn.methods import bad_teacher
from clip_unlearn.methods.bad_teacher import BadTeacher, loss_of


def zero_shot(step, images, names) -> np.ndarray:
    return log_probabilities(step.scale * numbers(images) @ numbers(names).T)


@pytest.mark.parametrize(("forget_weight", "retain_weight"), [(1.0, 1.0), (2.0, 0.0), (0.5, 3.0)])
def test_the_loss_is_the_divergence_from_both_teachers(forget_weight, retain_weight):
    step = fake_step()
    cosines = torch.as_tensor(numbers(step.forget.before_images) @ numbers(step.before_names).T)
    bad = log_probabilities(step.scale * numbers(shuffled(cosines, step.fresh_generator())))
    wrong = mean_divergence(bad, zero_shot(step, step.forget.images, step.names))
    before = zero_shot(step, step.retain.before_images, step.before_names)
    kept = mean_divergence(before, zero_shot(step, step.retain.images, step.names))
    found = value(loss_of(BadTeacher(forget_weight=forget_weight, retain_weight=retain_weight), step))
    assert found == pytest.approx(forget_weight * wrong + retain_weight * kept, abs=1e-9)


def test_the_incompetent_teacher_is_as_sure_as_the_model_was(monkeypatch):
    seen, real = [], bad_teacher.divergence

    def divergence(now, before):
        seen.append(before)
        return real(now, before)

    monkeypatch.setattr(bad_teacher, "divergence", divergence)
    step = fake_step()
    loss_of(BadTeacher(), step)
    before = step.scale * step.forget.before_images @ step.before_names.T
    torch.testing.assert_close(seen[0].sort(1).values, before.sort(1).values)
    assert not torch.allclose(seen[0], before)
    torch.testing.assert_close(seen[1], step.scale * step.retain.before_images @ step.before_names.T)


def test_only_forget_images_move_at_the_start():
    step, method = fake_step(at_start=True), BadTeacher()
    slopes = torch.autograd.grad(loss_of(method, step), [step.forget.images, step.retain.images])
    assert slopes[0].norm() > 1e-3
    assert slopes[1].norm() < 1e-12


def test_the_gradient_is_that_of_the_loss():
    method, step = BadTeacher(), fake_step()
    assert reached(loss_of(method, step), step) == {"forget.images", "retain.images", "names"}
    check_gradient(lambda each: loss_of(method, each), fake_step)


def test_training_lowers_the_loss(tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = labelled_request(tmp_path), BadTeacher(descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_classes_are_needed(tiny_clip, tmp_path):
    with pytest.raises(DataError, match="no class labels"):
        BadTeacher(descent=SHORT).forget(tiny_clip.model, captioned_request(tmp_path))


@pytest.mark.parametrize("settings", [{"forget_weight": 0.0}, {"retain_weight": -1.0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="greater than"):
        BadTeacher(**settings)
