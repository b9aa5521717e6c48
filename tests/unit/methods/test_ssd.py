"""Selective synaptic dampening: importances written out, the factor on each weight, and what is never touched."""

import numpy as np
import pytest
import torch
from descent_cases import captioned_request, cross_entropy, fake_step, labelled_request, numbers, reached, value

from clip_unlearn.core.descent import trained_weights
from clip_unlearn.core.marks import Mark
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.pairs import Pairs, pairs_of
from clip_unlearn.errors import DataError
from clip_unlearn.methods import ssd
from clip_unlearn.methods.ssd import Ssd, dampened, loss_of

FORGET, RETAIN = 6, 18
"""Images to learn from: three of four of the eight of each class."""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return labelled_request(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def better(monkeypatch):
    """Let the look after the edit find the less of the class."""
    verdicts(monkeypatch, 2, 1)


def verdicts(monkeypatch, *hits):
    left = list(hits)
    monkeypatch.setattr(
        Pairs,
        "examine",
        lambda _pairs, _model: Mark(
            forget_hits=left.pop(0), forget_count=2, retain_hits=4, retain_count=4, forget_probability=0.5
        ),
    )


@pytest.mark.parametrize(("selection", "dampening"), [(10.0, 1.0), (2.0, 0.5), (0.5, 3.0)])
def test_the_factor_by_hand(selection, dampening):
    random = torch.Generator().manual_seed(1)
    important, everywhere = torch.rand(200, generator=random), torch.rand(200, generator=random) ** 4
    important[0], everywhere[1], important[2:4], everywhere[3:5] = 0.0, 0.0, 0.0, 0.0
    found = dampened(important, everywhere, selection, dampening)
    for one, forget, every in zip(found.tolist(), important.tolist(), everywhere.tolist(), strict=True):
        wanted = min(1.0, dampening * every / forget) if forget > selection * every else 1.0
        assert one == pytest.approx(wanted, abs=1e-6)
    assert (found < 1).any()
    assert (found == 1).any()


def test_the_loss_of_classes_is_the_formula():
    step = fake_step(forget=4, retain=6)
    counts = {(4, 6): ("forget", "retain"), (4, 0): ("forget",), (0, 6): ("retain",)}
    for count, sides in counts.items():
        chosen = [getattr(step, side) for side in sides]
        images, labels = (torch.cat([getattr(side, kind) for side in chosen]) for kind in ("images", "labels"))
        wanted = cross_entropy(images, step.names, labels, step.scale)
        assert value(loss_of("classification", count, step)) == pytest.approx(wanted, abs=1e-9)
        found = reached(loss_of("classification", count, step), step)
        assert found == {"names", *(f"{side}.images" for side in sides)}


def test_the_size_of_scores_is_the_formula_and_needs_no_labels():
    step = fake_step(captions=True)
    scores = [step.scale * float(v @ t) for v in numbers(step.forget.images) for t in numbers(step.names)]
    wanted = sum(one**2 for one in scores) / len(step.forget.images)
    assert value(loss_of("scores", (4, 0), step)) == pytest.approx(wanted, abs=1e-9)


def literal(model, request, basis, *, batch, everything):
    """Return the importance of every weight in a pass over images, written out."""
    size = min(batch, FORGET)
    share = round(size * FORGET / (FORGET + RETAIN)) if everything else size
    feed = PairFeed(pairs=pairs_of(model, request), forget_batch=max(1, share), retain_batch=max(1, size - share))
    batches = -(-(FORGET + RETAIN if everything else FORGET) // size)
    names = trained_weights(model, "both")
    total = {name: np.zeros(model.weights[name].shape) for name in names}
    for number in range(batches):
        leaves = {name: model.weights[name].detach().clone().requires_grad_() for name in names}
        draft, inputs = model.replace(leaves), feed(number)
        sides = [inputs.forget] * (share > 0) + [inputs.retain] * (size > share)
        images = draft.images(torch.cat([side.pixels for side in sides]))
        assert len(images) == size
        labels = torch.cat([side.labels for side in sides])
        texts = draft.texts(inputs.names)
        scores = (
            model.logit_scale
            * (images / images.norm(dim=1, keepdim=True))
            @ (texts / texts.norm(dim=1, keepdim=True)).T
        )
        if basis == "classification":
            loss = -scores.log_softmax(1)[range(size), labels].mean()
        else:
            loss = (scores**2).sum() / size
        for name, one in zip(names, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            total[name] += (numbers(one) ** 2 if basis == "classification" else abs(numbers(one))) / batches
    return total


@pytest.mark.parametrize(
    ("basis", "batch", "selection", "dampening"),
    [("classification", 4, 2.0, 1.0), ("classification", 32, 3.0, 0.7), ("scores", 4, 1.5, 0.5)],
)
def test_the_edit_by_hand(tiny_clip, asked, better, basis, batch, selection, dampening):
    model = tiny_clip.model
    method = Ssd(basis=basis, batch=batch, selection=selection, dampening=dampening)
    before = model.fingerprint
    patch = method.forget(model, asked)
    important, everywhere = (
        literal(model, asked, basis, batch=batch, everything=everything) for everything in (False, True)
    )
    shrunk = 0
    for name in important:
        old = numbers(model.weights[name])
        new = old + (numbers(patch.deltas[name]) if name in patch.deltas else 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = everywhere[name] / important[name]
        edge = abs(ratio * selection - 1) < 1e-3
        wanted = np.where(ratio * selection < 1, old * np.minimum(1, dampening * ratio), old)
        assert new[~edge] == pytest.approx(wanted[~edge], rel=1e-3, abs=1e-6), name
        shrunk += int((wanted != old).sum())
    assert shrunk > 50
    assert patch.deltas.keys() <= set(trained_weights(model, "both")), "the logit scale is none of them"
    assert model.fingerprint == before
    assert {reading.subject for reading in patch.readings} == {"before", "after"}


def test_same_inputs_give_the_same_bytes(tiny_clip, asked, monkeypatch):
    verdicts(monkeypatch, *[2, 1] * 3)
    first, again, other = (
        Ssd(selection=2.0, batch=4).forget(tiny_clip.model, one)
        for one in (asked, asked, asked.model_copy(update={"seed": 1}))
    )
    assert first.deltas.keys() == again.deltas.keys()
    assert all(torch.equal(one, again.deltas[name]) for name, one in first.deltas.items())
    assert any(not torch.equal(one, other.deltas[name]) for name, one in first.deltas.items() if name in other.deltas)


@pytest.mark.parametrize(("hits", "empty"), [((2, 1), False), ((2, 2), True), ((1, 2), True)])
def test_an_edit_that_is_no_better_on_images_held_out_is_none(tiny_clip, asked, monkeypatch, hits, empty):
    verdicts(monkeypatch, *hits)
    patch = Ssd(selection=2.0).forget(tiny_clip.model, asked)
    assert patch.empty == empty
    assert ("No look at the images held out" in patch.reason) == empty


def test_a_selection_out_of_reach_changes_nothing(tiny_clip, asked, better):
    assert Ssd(selection=1e9).forget(tiny_clip.model, asked).empty


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_alone(tiny_clip, asked, better, tower):
    patch = Ssd(selection=2.0, towers=tower).forget(tiny_clip.model, asked)
    assert patch.deltas
    assert patch.deltas.keys() <= set(trained_weights(tiny_clip.model, tower))


@pytest.fixture
def wishes(monkeypatch):
    """Return a list of what importances are asked for; none of them chooses a weight."""
    seen = []

    def importances(task, settings, *, batches, fold):
        seen.append((settings.forget_batch, settings.retain_batch, settings.part, batches, fold))
        return {name: torch.ones_like(task.model.weights[name]) for name in task.weights}

    monkeypatch.setattr(ssd, "importances", importances)
    return seen


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, [(6, 1, None, 1, "square"), (2, 4, None, 4, "square")]),
        ({"batch": 4, "part": 2}, [(4, 1, 2, 2, "square"), (1, 3, 2, 6, "square")]),
        ({"batch": 1}, [(1, 1, None, 6, "square"), (1, 1, None, 24, "square")]),
        ({"batch": 4, "batches": 3, "basis": "scores"}, [(4, 1, None, 2, "magnitude"), (1, 3, None, 3, "magnitude")]),
    ],
)
def test_both_importances_take_batches_of_one_size_in_one_pass(tiny_clip, asked, wishes, settings, wanted):
    assert Ssd(**settings).forget(tiny_clip.model, asked).empty
    assert wishes == wanted


def test_captions_do_where_no_label_is_needed(tiny_clip, tmp_path, better):
    request = captioned_request(tmp_path)
    assert Ssd(selection=1.2, basis="scores").forget(tiny_clip.model, request).deltas
    with pytest.raises(DataError, match="no class labels"):
        Ssd().forget(tiny_clip.model, request)


def test_captions_in_another_sense_are_retained(tiny_clip, tmp_path, wishes):
    request = captioned_request(tmp_path)
    Ssd(basis="scores", other_senses=("red cat", "old cat")).forget(tiny_clip.model, request)
    assert wishes[0][0] < FORGET


@pytest.mark.parametrize("name", ["selection", "dampening", "batch", "batches", "part"])
def test_settings_are_checked(name):
    with pytest.raises(ValueError, match=name):
        Ssd(**{name: 0})
