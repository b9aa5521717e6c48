"""The published Lip: the slow loop's numbers, and each defect of its code answered."""

import copy
import dataclasses
import functools

import pytest
import torch
from torch import nn

from benchmark_modules import load
from clip_unlearn.core import journal
from clip_unlearn.core.config import build
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _published_loop, lip_paper
from clip_unlearn.methods.lip_paper import LipPaper
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis.published import PublishedAscent

literal = load("literal_lip")
FEW = {"pictures": 4, "stop_pictures": 3, "draws": 2}
STRONG = LipPaper(**FEW, learning_rate=1e-2)
"""Two hundred times the published step, with which the embedded model gains, and forgets much else."""

TINY_ASCENT = PublishedAscent(steps=10, batch=1, high_probability=0.4, lowest_probability=0.0, lower_by=0.02, rounds=40)


def about(*names: str, seed: int = 0) -> Request:
    retain = tuple(name for name in CLASS_NAMES if name not in names)
    return Request(forget=tuple(Concept(name=name) for name in names), retain=retain, seed=seed)


def in_double(model):
    return dataclasses.replace(model, module=copy.deepcopy(model.module).double())


def slow_way(model, method, request):
    """Return the slow loop's model and what it tells of every epoch, from the same generators."""
    names, slow = (*request.forget_names, *request.retain), literal.gradients_on(model)
    rows, pictures = literal.class_list(slow, request, names).detach(), []
    for place, name in enumerate(request.forget_names):
        count, generator = method.pictures + method.stop_pictures, lip_paper._seeded(request.seed, name)
        pictures.append(literal.all_pictures(slow, rows, place, count, method.ascent, generator)[0])
    return literal.forgotten(model, method, request, pictures, lip_paper._seeded(request.seed, "noise"))


def spied(monkeypatch):
    """Return the states that a run will go through, filled while it runs."""
    states, real = [], _published_loop.Loop.after

    def after(self, state):
        states.append(real(self, state))
        return states[-1]

    monkeypatch.setattr(_published_loop.Loop, "after", after)
    return states


def check_the_same(model, method, request, monkeypatch):
    """Check that the fast form and the slow loop agree, epoch by epoch and weight by weight; return the epochs."""
    states = spied(monkeypatch)
    patch = method.forget(model, request)
    slow, told = slow_way(model, method, request)
    best, place = 1.0, 0
    for state, (accuracy, slow_place, selected) in zip(states, told, strict=True):
        assert slow_place == place
        gained = accuracy < best
        best, place = (accuracy, place) if gained else (best, place + 1)
        assert (state.best, state.place) == (pytest.approx(best), place)
        assert not gained or {*selected} <= state.weights.keys()
    moved = {
        name: (slow.weights[name].detach() - weight).float()
        for name, weight in model.weights.items()
        if not torch.equal(slow.weights[name], weight)
    }
    assert patch.deltas.keys() == moved.keys()
    largest = max((float(wanted.abs().max()) for wanted in moved.values()), default=0.0)
    for name, wanted in moved.items():
        torch.testing.assert_close(patch.deltas[name], wanted, rtol=1e-6, atol=1e-6 * largest)
    return told


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"decoupled": True}, marks=pytest.mark.slow),
        pytest.param({"weight_decay": 0.0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_slow_loop_gives_the_same_weights_on_the_sandbox(settings, monkeypatch):
    model = in_double(open_model("sandbox"))
    method = LipPaper(**{**STRONG.model_dump(), **settings, "ascent": PublishedAscent(batch=1)})
    told = check_the_same(model, method, about("cat"), monkeypatch)
    assert min(accuracy for accuracy, _, _ in told) < 1


@pytest.mark.slow
def test_the_slow_loop_undoes_the_same_epochs(monkeypatch):
    """With the published step nothing is gained: 7 epochs of growing noise and numbers of tensors, all undone."""
    model = in_double(open_model("sandbox"))
    method = LipPaper(**FEW, ascent=PublishedAscent(batch=1))
    told = check_the_same(model, method, about("cat"), monkeypatch)
    assert [place for _, place, _ in told] == list(range(7))
    assert [len(selected) for _, _, selected in told] == [50, 54, 60, 65, 67, 72, 77]  # 32 of the text tower in all


@pytest.mark.parametrize("schedule", ["transformer", "convolutional"])
def test_the_slow_loop_gives_the_same_weights_in_every_family(tiny, schedule, monkeypatch):
    """Epochs that gain and epochs that are undone, with several templates and two concepts at once."""
    model = in_double(tiny.model)
    request = Request(
        forget=(Concept(name="cat"), Concept(name="dog")), retain=("teapot", "car"),
        templates=("a photo of a {}.", "the {}"), seed=3,
    )  # fmt: skip
    method = LipPaper(
        pictures=2, stop_pictures=2, draws=2, learning_rate=1e-2, epochs=4, schedule=schedule, ascent=TINY_ASCENT
    )
    monkeypatch.setattr(lip_paper, "climb", any_pictures)
    monkeypatch.setattr(literal, "all_pictures", slow_any_pictures)
    check_the_same(model, method, request, monkeypatch)


def any_pictures(model, targets, classes, *, count, settings, generator):
    """Stand in for the ascent, which a random model cannot lead to every word: noise."""
    space = model.adapter.pixels

    @dataclasses.dataclass
    class Found:
        pixels: torch.Tensor

    return Found(torch.rand(count, 3, space.height, space.width, generator=generator, dtype=torch.float64))


def slow_any_pictures(model, rows, wanted, count, settings, generator):
    return list(any_pictures(model, None, None, count=count, settings=settings, generator=generator).pixels), []


def test_without_a_gain_the_patch_is_empty_and_says_why():
    """The published code returned the failed state, or stopped at a name that did not exist."""
    patch = LipPaper(**FEW).forget(open_model("sandbox"), about("cat"))
    assert patch.empty
    assert patch.reason == (
        "In 7 epochs, each undone, the accuracy on 3 synthetic pictures that were not trained on never fell below "
        "1.00, where one picture counts 0.3333. Use a larger learning_rate or another method."
    )
    (reading,) = patch.readings
    assert (reading.name, reading.value, reading.count) == ("synthetic forget accuracy", 1.0, 3)


def test_numbers_that_are_not_finite_are_no_gain():
    patch = LipPaper(**FEW, learning_rate=1e30).forget(open_model("sandbox"), about("cat"))
    assert patch.empty
    assert "In 7 epochs, each undone" in patch.reason


def test_the_best_state_is_returned_and_its_accuracy_is_read():
    model = open_model("sandbox")
    patch = STRONG.forget(model, about("cat"))
    assert patch.reason == ""
    (reading,) = patch.readings
    assert (reading.name, reading.count, reading.better) == ("synthetic forget accuracy", 3, "low")
    assert reading.value <= 0.1
    assert 25 <= len(patch.deltas) <= 77


@pytest.mark.parametrize("family", ["sandbox-conv", "sandbox-openclip"])
def test_model_and_batch_normalisation_stay_as_they_were(family):
    """Also where weights ask for gradients: they get none."""
    opened = open_model(family)
    model = dataclasses.replace(opened, module=copy.deepcopy(opened.module))
    for number, weight in enumerate(model.module.parameters()):
        weight.requires_grad_(number % 2 == 0)
    before, asked = model.fingerprint, [weight.requires_grad for weight in model.module.parameters()]
    patch = STRONG.forget(model, about("cat"))
    assert dataclasses.replace(model).fingerprint == before
    assert [weight.requires_grad for weight in model.module.parameters()] == asked
    assert all(weight.grad is None for weight in model.module.parameters())
    assert not patch.empty
    norms = [name for name, part in model.module.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert bool(norms) == (family == "sandbox-conv")
    assert not {name.rpartition(".")[0] for name in patch.deltas} & {*norms}


def test_epochs_are_judged_by_pictures_that_were_not_trained_on(monkeypatch):
    """All of them are the accepted ones, in the one pixel space, and none is in both parts."""
    seen, real = [], lip_paper.Loop
    monkeypatch.setattr(lip_paper, "Loop", lambda **values: seen.append(real(**values)) or seen[-1])
    model, request = open_model("sandbox"), about("cat", "car")
    LipPaper(**FEW, epochs=1).forget(model, request)
    (loop,) = seen
    assert [len(part) for part in (*loop.train, *loop.stop)] == [4, 4, 3, 3]
    everything = torch.cat([*loop.train, *loop.stop])
    assert len({picture.numpy().tobytes() for picture in everything}) == 14
    assert torch.equal(loop.hits({}), torch.ones(6, dtype=torch.bool))
    rows = unit(loop.rows)
    shares = (model.logit_scale * unit(model.images(everything)) @ rows.T).softmax(1)
    labels = torch.tensor([0] * 4 + [1] * 4 + [0] * 3 + [1] * 3)
    assert float(shares[range(14), labels].min()) > 0.8


def test_several_classes_are_forgotten_at_once():
    """Fourteen pictures, each asked for as its own class; the accuracy is over all of them."""
    patch = STRONG.forget(open_model("sandbox"), about("cat", "car"))
    (reading,) = patch.readings
    assert reading.count == 6
    assert reading.value < 1


def test_the_pictures_of_a_class_do_not_depend_on_the_others(monkeypatch):
    seen, real = [], lip_paper.Loop
    monkeypatch.setattr(lip_paper, "Loop", lambda **values: seen.append(real(**values)) or seen[-1])
    model, method = open_model("sandbox"), LipPaper(**FEW, epochs=1)
    for seed in (0, 0, 1):
        method.forget(model, about("cat", seed=seed))
    assert torch.equal(seen[0].train[0], seen[1].train[0])
    assert not torch.equal(seen[0].train[0], seen[2].train[0])


def test_an_unreachable_probability_is_a_clear_failure():
    method = LipPaper(**FEW, ascent=PublishedAscent(steps=2, high_probability=0.999, lower_by=0))
    with pytest.raises(UnsupportedError, match=r"^0 of 7 pictures .* within 2 steps\. Allow more steps"):
        method.forget(open_model("sandbox"), about("cat"))


def test_there_must_be_something_to_tell_the_class_from():
    with pytest.raises(UnsupportedError, match=r"needs names to retain\. Give --retain"):
        LipPaper().forget(open_model("sandbox"), Request(forget=(Concept(name="cat"),)))


def test_the_background_is_the_class_list_where_nothing_is_to_be_retained(monkeypatch):
    seen, real = [], lip_paper.Loop
    monkeypatch.setattr(lip_paper, "Loop", lambda **values: seen.append(real(**values)) or seen[-1])
    request = Request(forget=(Concept(name="cat"),), background=("car", "mug"))
    LipPaper(**FEW, epochs=1).forget(open_model("sandbox"), request)
    assert seen[0].candidates == ("a photo of a cat.", "a photo of a car.", "a photo of a mug.")


def test_rows_are_encoded_again_only_where_the_text_tower_moved(monkeypatch):
    seen, real = [], lip_paper.Loop
    monkeypatch.setattr(lip_paper, "Loop", lambda **values: seen.append(real(**values)) or seen[-1])
    model = open_model("sandbox")
    LipPaper(**FEW, epochs=1).forget(model, about("cat"))
    calls = []
    monkeypatch.setattr(_published_loop, "class_rows", lambda *given: calls.append(given) or seen[0].rows)
    seen[0].hits({name: model.weights[name] for name in seen[0].towers["image"][:2]})
    assert not calls
    seen[0].hits({seen[0].towers["text"][0]: model.weights[seen[0].towers["text"][0]]})
    assert len(calls) == 1


def test_the_same_seed_gives_the_same_bytes_in_any_weather():
    model = open_model("sandbox")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = STRONG.forget(model, about("cat")).deltas
        torch.manual_seed(2)
        second = STRONG.forget(model, about("cat")).deltas
    other = STRONG.forget(model, about("cat", seed=1)).deltas
    assert all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())
    assert not all(name in other and torch.equal(first[name], other[name]) for name in first)


@functools.cache
def in_one_go(method):
    """Return the patch of a run that nobody interrupts."""
    patch = method.forget(open_model("sandbox"), about("cat", "car"))
    assert not patch.empty
    return patch


@pytest.mark.parametrize("killed_at", [("synthesise", 7), ("forget", 1), ("forget", 3)], ids=str)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, killed_at, monkeypatch):
    """Four epochs, of which some gain and some are undone: weights, moments, noise and place all carry over."""
    model, request = open_model("sandbox"), about("cat", "car")
    method = LipPaper(**FEW, learning_rate=7e-3, epochs=4, stop_accuracy=0)
    whole = in_one_go(method)

    def kill(stage, done, total):
        if (stage, done) == killed_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), journal.journaling(tmp_path / "steps", resume=True), reporting(kill):
        method.forget(model, request)
    states = spied(monkeypatch)
    with journal.journaling(tmp_path / "steps", resume=True):
        resumed = method.forget(model, request)
    assert len(states) == 4 - (killed_at[1] if killed_at[0] == "forget" else 0)
    assert 0 < states[-1].place < 4
    assert resumed.reason == whole.reason
    assert resumed.readings == whole.readings
    assert resumed.deltas.keys() == whole.deltas.keys()
    assert all(torch.equal(resumed.deltas[name], delta) for name, delta in whole.deltas.items())


@pytest.mark.parametrize("sentence", ["a picture", "{} and {}"])
def test_a_sentence_without_one_place_for_the_name_is_refused(sentence):
    with pytest.raises(SettingError, match=r"must hold \{\} exactly once"):
        build(LipPaper, {"sentence": sentence}, where="method lip_paper")
