"""Fine-tuning on what is retained: its loss, what it looks at, and that it takes the last state."""

import pytest
import torch
from descent_cases import (
    DOWN,
    SHORT,
    captioned_request,
    check_gradient,
    check_same_bytes,
    cross_entropy,
    fake_step,
    labelled_request,
    log_probabilities,
    losses,
    numbers,
    reached,
    value,
)

from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import Pairs
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.methods.fine_tune import FineTune, loss_of


def test_the_contrastive_loss_is_that_of_both_directions():
    step = fake_step()
    logits = step.scale * numbers(step.retain.images) @ numbers(step.retain.texts).T
    directions = [-sum(log_probabilities(one)[place, place] for place in range(6)) / 6 for one in (logits, logits.T)]
    assert value(loss_of(FineTune(), step)) == pytest.approx(sum(directions) / 2, abs=1e-9)


def test_the_classification_loss_is_over_the_whole_class_list():
    step = fake_step()
    written = cross_entropy(step.retain.images, step.names, step.retain.labels, step.scale)
    assert value(loss_of(FineTune(loss="classification"), step)) == pytest.approx(written, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [("contrastive", {"retain.images", "retain.texts"}), ("classification", {"retain.images", "names"})],
)
def test_nothing_is_learned_from_what_is_to_be_forgotten(loss, wanted):
    step, method = fake_step(), FineTune(loss=loss)
    assert reached(loss_of(method, step), step) == wanted
    check_gradient(lambda each: loss_of(method, each), fake_step)


@pytest.mark.parametrize("loss", ["contrastive", "classification"])
def test_training_lowers_the_loss(tiny_clip, tmp_path, loss):
    request, method = labelled_request(tmp_path), FineTune(loss=loss, descent=DOWN)
    patch = method.forget(tiny_clip.model, request)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < before - 0.01


def test_the_same_request_gives_the_same_bytes(tiny_clip, tmp_path):
    check_same_bytes(FineTune(descent=SHORT), tiny_clip.model, labelled_request(tmp_path))


def test_the_last_state_is_taken_whatever_the_looks_find(tiny_clip, tmp_path, monkeypatch):
    request, looks, examine = labelled_request(tmp_path), [], Pairs.examine

    def counted(self, model):
        looks.append(model)
        return examine(self, model)

    monkeypatch.setattr(Pairs, "examine", counted)
    found = [
        FineTune(descent=Descent(**{**SHORT.model_dump(), "check_every": every, "patience": 1})).forget(
            tiny_clip.model, request
        )
        for every in (1, 4)
    ]
    assert len(looks) == 4
    assert found[0].deltas.keys() == found[1].deltas.keys()
    for name, delta in found[0].deltas.items():
        torch.testing.assert_close(delta, found[1].deltas[name], rtol=0, atol=1e-7)
    readings = [(one.name, one.subject) for one in found[0].readings]
    assert readings == [
        (f"stop-set {side} accuracy", subject) for subject in ("before", "after") for side in ("forget", "retain")
    ]


def test_captions_are_enough_for_the_contrastive_loss(tiny_clip, tmp_path):
    request = captioned_request(tmp_path)
    patch = FineTune(descent=SHORT).forget(tiny_clip.model, request)
    assert patch.deltas
    with pytest.raises(DataError, match="no class labels"):
        FineTune(loss="classification", descent=SHORT).forget(tiny_clip.model, request)


def test_other_senses_are_retained(tiny_clip, tmp_path):
    request = captioned_request(tmp_path)
    plain, told = (
        FineTune(descent=SHORT, other_senses=senses).forget(tiny_clip.model, request)
        for senses in ((), ("red cat", "old cat", "big cat"))
    )
    assert any(not torch.equal(delta, told.deltas[name]) for name, delta in plain.deltas.items())


def test_captions_without_classes_are_refused_as_a_setting():
    with pytest.raises(ValueError, match="captions have no classes"):
        FineTune(loss="classification", sentences="captions")


def test_images_are_needed(tiny_clip, tmp_path):
    request = labelled_request(tmp_path).model_copy(update={"evidence": None})
    with pytest.raises(UnsupportedError, match="no images to learn from"):
        FineTune().forget(tiny_clip.model, request)
