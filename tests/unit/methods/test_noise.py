"""Noise that is learned for classes, and the feeds that give it to the training loop."""

import pytest
import torch
from descent_cases import labelled_request

from clip_unlearn.core.journal import journaling
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.feed import PairFeed, TextTable
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _noise
from clip_unlearn.methods._noise import Learning, NoiseFeed, NoisyFeed, learned

NAMES = ("cat", "dog", "mug", "bird")
TEMPLATES = ("a photo of a {}.", "the {}")
REQUEST = Request(forget=(Concept(name="cat"), Concept(name="dog")), retain=NAMES[2:], templates=TEMPLATES)
WORST = Learning(count=3, steps=4, rate=0.1, maximise=True, penalty=0.01)
BEST = Learning(count=2, steps=4, rate=0.1, maximise=False)


@pytest.fixture(scope="module")
def model(tiny_clip):
    return tiny_clip.model


def own_losses(model, pixels, labels):
    """Return -log p(own class | z) of every noise, by the mean of the class's sentences."""
    rows = []
    for name in NAMES:
        sentences = unit(model.texts([template.replace("{}", name) for template in TEMPLATES]))
        rows.append(sentences.mean(0) / sentences.mean(0).norm())
    logits = model.logit_scale * unit(model.images(pixels)) @ torch.stack(rows).T
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels]


def descended(model, how, start, labels):
    """Return what Adam, written out, makes of noises."""
    z, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step in range(1, how.steps + 1):
        z.requires_grad_()
        objective = (-1 if how.maximise else 1) * own_losses(model, z, labels).sum()
        objective = objective + how.penalty * sum(each.pow(2).sum() for each in z)
        slope = torch.autograd.grad(objective, z)[0]
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope.square()
        lengths = (second / (1 - 0.999**step)).sqrt() + 1e-8
        z = z.detach() - how.rate * first / (1 - 0.9**step) / lengths
    return z


@pytest.mark.parametrize("how", [WORST, BEST])
def test_noise_is_what_adam_makes_of_a_normal_start(model, how):
    start = learned(model, REQUEST, NAMES, [0, 1], Learning(count=how.count, steps=1, rate=1e-12, maximise=True))
    assert float(start.pixels.mean()) == pytest.approx(0, abs=0.03)
    assert float(start.pixels.std()) == pytest.approx(1, abs=0.03)
    found = learned(model, REQUEST, NAMES, [0, 1], how)
    # Where a slope is but rounding, Adam makes a whole step of it, so single pixels may differ.
    off = (found.pixels - descended(model, how, start.pixels, found.labels)).abs()
    assert float(off.quantile(0.99)) < 1e-4
    torch.testing.assert_close(found.embeddings, unit(model.images(found.pixels)).detach())


def test_errors_rise_where_they_are_maximised_and_fall_where_they_are_minimised(model):
    def loss(maximise, steps):
        how = Learning(count=2, steps=steps, rate=0.1, maximise=maximise)
        found = learned(model, REQUEST, NAMES, [0, 2], how)
        return own_losses(model, found.pixels, found.labels)

    assert bool((loss(True, 8) > loss(True, 1)).all())
    assert bool((loss(False, 8) < loss(False, 1)).all())


def test_the_penalty_makes_noise_shorter(model):
    lengths = []
    for penalty in (0.0, 10.0):
        how = Learning(count=2, steps=8, rate=0.1, maximise=True, penalty=penalty)
        lengths.append(float(learned(model, REQUEST, NAMES, [0], how).pixels.norm()))
    assert lengths[1] < 0.6 * lengths[0]


def test_noises_come_class_by_class_whatever_else_is_learned(model, monkeypatch):
    together = learned(model, REQUEST, NAMES, [1, 3], WORST)
    assert together.labels.tolist() == [1, 1, 1, 3, 3, 3]
    assert together.pixels.shape == (6, 3, 32, 32)
    alone = learned(model, REQUEST, NAMES, [3], WORST)
    monkeypatch.setattr(_noise, "TOGETHER", 2)
    parted = learned(model, REQUEST, NAMES, [1, 3], WORST)
    for one, other in ((together.pixels[3:], alone.pixels), (together.pixels, parted.pixels)):
        assert float((one - other).abs().quantile(0.99)) < 1e-4
    start = learned(model, REQUEST, NAMES, [1, 3], Learning(count=3, steps=1, rate=1e-12, maximise=True)).pixels
    assert float(torch.corrcoef(start.flatten(1)).triu(1).abs().max()) < 0.1


def test_noise_depends_on_model_request_and_settings_alone(model):
    before = model.fingerprint
    torch.manual_seed(1)
    first = learned(model, REQUEST, NAMES, [0], WORST)
    torch.manual_seed(2)
    again = learned(model, REQUEST, NAMES, [0], WORST)
    other = learned(model, REQUEST.model_copy(update={"seed": 1}), NAMES, [0], WORST)
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, other.pixels)
    assert model.fingerprint == before
    assert all(weight.grad is None for weight in model.weights.values())


def test_an_interrupted_run_does_not_learn_again_what_it_has(model, monkeypatch, tmp_path):
    calls, real = [], _noise._descended

    def counted(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    wanted = learned(model, REQUEST, NAMES, [0, 1], WORST)
    monkeypatch.setattr(_noise, "TOGETHER", 2)
    monkeypatch.setattr(_noise, "_descended", counted)
    with pytest.raises(KeyboardInterrupt), journaling(tmp_path, resume=False):
        learned(model, REQUEST, NAMES, [0, 1], WORST)
    with journaling(tmp_path, resume=True):
        found = learned(model, REQUEST, NAMES, [0, 1], WORST)
        assert calls == [2, 2, 2, 2]
        learned(model, REQUEST, NAMES, [0, 1], BEST)
        assert len(calls) == 6
    assert float((found.pixels - wanted.pixels).abs().quantile(0.99)) < 1e-4


@pytest.fixture(scope="module")
def feed(model):
    return NoiseFeed(
        request=REQUEST,
        names=NAMES,
        forget=learned(model, REQUEST, NAMES, [0, 1], WORST),
        retain=learned(model, REQUEST, NAMES, [2, 3], BEST),
        forget_batch=4,
        retain_batch=99,
        texts=TextTable(model=model),
    )


def test_a_step_has_noises_of_both_sides_with_their_classes(feed, model):
    inputs = feed(0)
    assert inputs.forgotten == 2
    assert len(inputs.forget.pixels) == 4
    assert len(inputs.retain.pixels) == 4
    template = next(one for one in TEMPLATES if inputs.names[0] == one.replace("{}", "cat"))
    assert inputs.names == tuple(template.replace("{}", name) for name in NAMES)
    torch.testing.assert_close(inputs.before_names, unit(model.texts(inputs.names)).detach())
    for side, places in ((inputs.forget, {0, 1}), (inputs.retain, {2, 3})):
        assert set(side.labels.tolist()) <= places
        assert side.sentences == tuple(inputs.names[label] for label in side.labels.tolist())
        torch.testing.assert_close(side.before_images, unit(model.images(side.pixels)).detach())
        torch.testing.assert_close(side.before_texts, unit(model.texts(side.sentences)).detach())


def test_no_noise_comes_twice_in_a_step_and_all_come_in_time(feed):
    seen = set()
    for number in range(12):
        rows = feed(number).forget.rows.tolist()
        assert len(set(rows)) == 4
        seen |= set(rows)
    assert seen == set(range(6))
    assert sorted(feed(0).retain.rows.tolist()) == [0, 1, 2, 3]


def test_the_number_of_a_step_and_the_seed_decide_over_its_inputs(feed, model):
    def drawn(one):
        steps = [one(number) for number in range(10)]
        rows = [step.forget.rows.tolist() for step in steps]
        return rows, [step.names for step in steps], [float(torch.rand((), generator=s.generator)) for s in steps]

    rows, names, numbers = drawn(feed)
    assert (rows, names, numbers) == drawn(feed)
    assert len({tuple(each) for each in rows}) > 5
    assert len(set(names)) == 2
    assert len(set(numbers)) == 10
    reseeded = NoiseFeed(**{**vars(feed), "request": REQUEST.model_copy(update={"seed": 3})})
    assert drawn(reseeded)[0] != rows


def test_noises_take_the_place_of_images_to_be_forgotten(model, tmp_path):
    request = labelled_request(tmp_path, templates=TEMPLATES)
    pairs = PairFeed(pairs=pairs_of(model, request), forget_batch=1, retain_batch=5)
    noises = learned(model, request, ("cat", "bird", "car", "dog"), [0], WORST)
    feed = NoisyFeed(feed=pairs, noises=noises, forget_batch=2)
    for number in range(4):
        inputs, wanted = feed(number), pairs(number)
        assert len(inputs.forget.labels) == 2
        assert all(any(torch.equal(one, other) for other in noises.pixels) for one in inputs.forget.pixels)
        assert torch.equal(inputs.retain.pixels, wanted.retain.pixels)
        assert (inputs.names, inputs.forgotten) == (wanted.names, 1)
        assert inputs.forget.sentences == (wanted.names[0],) * 2
        assert torch.equal(inputs.before_names, wanted.before_names)
        draws = [torch.rand(3, generator=each.generator) for each in (inputs, wanted)]
        assert torch.equal(*draws)
    assert len({tuple(feed(number).forget.rows.tolist()) for number in range(8)}) > 2
