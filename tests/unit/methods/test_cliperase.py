"""CLIPErase: its three modules, their weights and the floor, from classes and from captions."""

import numpy as np
import pytest
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
    numbers,
    reached,
    take_the_last_state,
    value,
)

from clip_unlearn.core.patch import Patch
from clip_unlearn.methods.cliperase import Cliperase, loss_of

ALONE = {"retain_weight": 0.0, "consistency_weight": 0.0}


def forgetting(step):
    """Return the mean cosine of matched pairs to forget, written out."""
    images, texts = numbers(step.forget.images), numbers(step.forget.texts)
    return float(np.mean([sum(a * b for a, b in zip(v, t, strict=True)) for v, t in zip(images, texts, strict=True)]))


def tables(images, texts, scale):
    """Return log p of both directions: row i over all texts, row j over all images."""
    logits = scale * numbers(images) @ numbers(texts).T
    return log_probabilities(logits), log_probabilities(logits.T)


def retention(step):
    """Return the contrastive loss of the retain pairs, written out."""
    rows, columns = tables(step.retain.images, step.retain.texts, step.scale)
    return float(-(np.mean(np.diag(rows)) + np.mean(np.diag(columns))) / 2)


def consistency(step):
    """Return KL(before || now) of both directions, row by row."""
    side = step.retain
    now = tables(side.images, side.texts, step.scale)
    before = tables(side.before_images, side.before_texts, step.scale)
    total = 0.0
    for q, p in zip(now, before, strict=True):
        total += float(
            np.mean([sum(np.exp(b) * (b - a) for a, b in zip(x, y, strict=True)) for x, y in zip(q, p, strict=True)])
        )
    return total


@pytest.mark.parametrize(
    ("retain", "forget", "consistent"),
    [(1.0, 3.0, 3.0), (0.0, 2.0, 0.0), (0.7, 0.0, 0.0), (0.0, 0.0, 1.3), (2.0, 1.0, 0.5)],
)
def test_the_loss_is_the_weighted_sum_of_its_modules(retain, forget, consistent):
    step = fake_step(3)
    method = Cliperase(retain_weight=retain, forget_weight=forget, consistency_weight=consistent)
    wanted = retain * retention(step) + forget * forgetting(step) + consistent * consistency(step)
    assert value(loss_of(method, step)) == pytest.approx(wanted, abs=1e-9)


def test_the_published_weights_are_the_default():
    method = Cliperase()
    assert (method.retain_weight, method.forget_weight, method.consistency_weight) == (1.0, 3.0, 3.0)


def test_nothing_is_inconsistent_before_the_first_step():
    only = Cliperase(retain_weight=0.0, forget_weight=0.0, consistency_weight=3.0)
    assert value(loss_of(only, fake_step(at_start=True))) == pytest.approx(0.0, abs=1e-12)
    assert value(loss_of(only, fake_step())) > 0.1


@pytest.mark.parametrize("floor", ["none", "neutral"])
def test_the_gradient_is_that_of_the_loss(floor):
    method, step = Cliperase(floor=floor), fake_step(1)
    assert reached(loss_of(method, step), step) == {"forget.images", "forget.texts", "retain.images", "retain.texts"}
    check_gradient(lambda each: loss_of(method, each), lambda: fake_step(1))


def test_a_module_without_weight_is_not_computed():
    step = fake_step()
    assert reached(loss_of(Cliperase(**ALONE), step), step) == {"forget.images", "forget.texts"}
    assert reached(loss_of(Cliperase(forget_weight=0.0), step), step) == {"retain.images", "retain.texts"}


def test_the_floor_is_what_the_pictures_had_with_other_sentences():
    """Pairs below it no longer count; those above are drawn down as before."""
    step = fake_step(5)
    before, others = numbers(step.forget.before_images), numbers(step.retain.before_texts)
    floors = [np.mean([float(v @ t) for t in others]) for v in before]
    own = [float(v @ t) for v, t in zip(numbers(step.forget.images), numbers(step.forget.texts), strict=True)]
    assert any(a < b for a, b in zip(own, floors, strict=True))
    assert any(a > b for a, b in zip(own, floors, strict=True))
    wanted = 3.0 * np.mean([max(a, b) for a, b in zip(own, floors, strict=True)])
    loss = loss_of(Cliperase(floor="neutral", **ALONE), step)
    assert value(loss) == pytest.approx(float(wanted), abs=1e-9)
    loss.backward()
    still = step.forget.images.grad.norm(dim=1) > 0
    assert still.tolist() == [a > b for a, b in zip(own, floors, strict=True)]


@pytest.mark.parametrize("asked", [labelled_request, captioned_request])
def test_training_lowers_the_loss(asked, tiny_clip, tmp_path, monkeypatch):
    take_the_last_state(monkeypatch)
    request, method = asked(tmp_path), Cliperase(descent=DOWN)
    patch = check_same_bytes(method, tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01
    changed = {name.partition(".")[0] for name in patch.deltas}
    assert any("text" in name for name in changed)
    assert any("vision" in name or "visual" in name for name in changed)
    assert not any("logit_scale" in name for name in patch.deltas)


@pytest.mark.parametrize(("other_senses", "count"), [((), 8), (("big cat",), 7)])
def test_captions_alone_say_what_is_to_be_forgotten(other_senses, count, tiny_clip, tmp_path, monkeypatch):
    """Another sense of the word is retained."""
    seen = []

    def noted(method, pairs, loss, descent):
        seen.append(pairs)
        return Patch(reason="not trained")

    monkeypatch.setattr("clip_unlearn.methods.cliperase.trained", noted)
    Cliperase(other_senses=other_senses).forget(tiny_clip.model, captioned_request(tmp_path))
    (pairs,) = seen
    gone = {pairs.images.captions[row][0] for row in (*pairs.forget, *pairs.held_forget)}
    assert pairs.captioned
    assert len(gone) == count
    assert all(caption.endswith("cat") for caption in gone)
    assert not gone & set(other_senses)


@pytest.mark.parametrize(
    "settings", [{"forget_weight": -1.0}, {"retain_weight": -0.1}, {"consistency_weight": -2.0}, {"floor": "zero"}]
)
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Cliperase(**settings)


def test_no_weight_at_all_changes_nothing(tiny_clip, tmp_path):
    patch = Cliperase(forget_weight=0.0, descent=SHORT, **ALONE).forget(tiny_clip.model, labelled_request(tmp_path))
    assert patch.empty
    assert patch.reason
