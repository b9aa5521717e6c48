"""RAZOR: the score of a layer, which are chosen, the loss, and what is trained."""

import math

import numpy as np
import pytest
import torch
from descent_cases import (
    SHORT,
    captioned_request,
    check_gradient,
    check_same_bytes,
    fake_step,
    labelled_request,
    log_probabilities,
    numbers,
    reached,
)

from clip_unlearn.core import journal
from clip_unlearn.core.request import Concept
from clip_unlearn.core.training import Descent
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.methods import razor
from clip_unlearn.methods._layers import Layer, layer_weights
from clip_unlearn.methods.razor import Razor, chosen, contrast_of, known_of, loss_of, score

QUICK = {"score_batches": 2, "descent": SHORT}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def request_for_dogs(pictures):
    """The tiny models take every picture of noise for a dog, so this class is the one that can be forgotten."""
    return labelled_request(pictures, forget=(Concept(name="dog"),), retain=("bird", "car", "cat"))


def layer(name: str, importance: float, alignment: float = 0.0) -> Layer:
    return Layer(name=name, gradient=torch.zeros(1), importance=importance, alignment=alignment)


def contrast(step) -> float:
    logits = step.scale * numbers(step.retain.images) @ numbers(step.retain.texts).T
    own = range(len(logits))
    both = (log_probabilities(logits), log_probabilities(logits.T))
    return -sum(float(np.mean([found[row][row] for row in own])) for found in both) / 2


@pytest.mark.parametrize(
    ("alignment", "power", "wanted"),
    [(0.0, 1.0, 3.0), (1.0, 1.0, 0.0), (-1.0, 1.0, 6.0), (0.5, 2.0, 0.75), (-0.5, 0.5, 3 * 1.5**0.5), (0.9, 0.0, 3.0)],
)
def test_the_score(alignment, power, wanted):
    assert score(layer("one", 3.0, alignment), power) == pytest.approx(wanted)
    assert score(layer("rounded", 3.0, 1 + 1e-9), 0.5) == 0.0


@pytest.mark.parametrize(
    ("threshold", "wanted"),
    [(0.01, "c"), (0.5, "c"), (0.51, "ca"), (0.8, "ca"), (0.81, "cad"), (1.0, "cadb")],
)
def test_as_few_layers_as_have_the_share(threshold, wanted):
    layers = [layer("a", 3.0), layer("b", 0.5), layer("c", 5.0), layer("d", 1.5)]
    assert chosen(layers, power=1.0, threshold=threshold) == set(wanted)


def test_the_power_decides_who_is_chosen():
    layers = [layer("shared", 5.0, 0.8), layer("own", 3.0, -0.2)]
    assert chosen(layers, power=0.0, threshold=0.5) == {"shared"}
    assert chosen(layers, power=1.0, threshold=0.5) == {"own"}
    assert chosen((), power=1.0, threshold=0.5) == frozenset()


@pytest.mark.parametrize(("forget_weight", "mismatch_weight"), [(1.0, 1.0), (2.5, 0.0), (0.0, 0.7), (0.0, 0.0)])
def test_the_loss(forget_weight, mismatch_weight):
    step, method = fake_step(3), Razor(forget_weight=forget_weight, mismatch_weight=mismatch_weight)
    images, texts, others = (numbers(one) for one in (step.forget.images, step.forget.texts, step.retain.texts))
    wanted = contrast(step)
    wanted += forget_weight * 0.4 * np.mean([images[row] @ texts[row] for row in range(4)])
    drawn = torch.randint(6, (4,), generator=step.fresh_generator()).tolist()
    wanted += mismatch_weight * np.mean([1 - images[row] @ others[drawn[row]] for row in range(4)])
    assert len(set(drawn)) > 1
    assert loss_of(method, 0.4, step).item() == pytest.approx(wanted, abs=1e-9)


def test_the_losses_of_the_scores():
    step = fake_step(4)
    images, texts = numbers(step.forget.images), numbers(step.forget.texts)
    assert known_of(step).item() == pytest.approx(-np.mean([images[row] @ texts[row] for row in range(4)]))
    assert contrast_of(step).item() == pytest.approx(contrast(step))


def test_the_gradient_of_the_loss():
    check_gradient(lambda step: loss_of(Razor(forget_weight=2.0), 0.4, step), lambda: fake_step(5, captions=True))


def test_a_weight_of_nothing_asks_for_nothing():
    def asked(**settings: float) -> set[str]:
        step = fake_step()
        return reached(loss_of(Razor(**settings), 1.0, step), step)

    retained = {"retain.images", "retain.texts"}
    assert asked(forget_weight=0, mismatch_weight=0) == retained
    assert asked(mismatch_weight=0) == {*retained, "forget.images", "forget.texts"}
    assert asked(forget_weight=0) == {*retained, "forget.images"}


def test_what_is_trained_and_how_losses_are_balanced(tiny, request_for_dogs):
    method, pairs = Razor(threshold=0.4, **QUICK), pairs_of(tiny.model, request_for_dogs)
    edit = method._edit(pairs)
    known, retained = (
        method._gradients(pairs, stage, loss) for stage, loss in (("forget", known_of), ("retain", contrast_of))
    )
    scores = {}
    for name in layer_weights(tiny.model, tuple(known)):
        first, second = known[name].double().flatten().numpy(), retained[name].double().flatten().numpy()
        lengths = [math.sqrt(sum(one * one)) for one in (first, second)]
        if lengths[0]:
            cosine = sum(first * second) / (lengths[0] * lengths[1])
            scores[name] = lengths[0] / float(tiny.model.weights[name].detach().norm()) * (1 - cosine)
    order = sorted(scores, key=lambda name: -scores[name])
    assert set(edit.names) == set(order[: len(edit.names)])
    shares = [sum(scores[name] for name in order[:count]) for count in (len(edit.names) - 1, len(edit.names))]
    assert shares[0] < 0.4 * sum(scores.values()) <= shares[1]
    lengths = [math.sqrt(sum(float(found[name].square().sum()) for name in edit.names)) for found in (known, retained)]
    assert edit.ratio == pytest.approx(lengths[1] / lengths[0], rel=1e-5)


def test_settings_of_the_scores(tiny_clip, request_for_dogs, monkeypatch):
    asked = []

    def tower_layers(*_):
        return ((layer("visual_projection.weight", 1.0, 0.5),), (layer("text_projection.weight", 0.9),))

    def mean_gradient(task, settings, *, batches):
        asked.append((settings, batches))
        return {name: torch.ones(1) for name in task.weights}

    monkeypatch.setattr(razor, "tower_layers", tower_layers)
    monkeypatch.setattr(razor, "mean_gradient", mean_gradient)
    pairs = pairs_of(tiny_clip.model, request_for_dogs)
    found = [
        Razor(score_batches=3, power=power, threshold=threshold, descent=SHORT)._edit(pairs).names
        for power, threshold in ((0.0, 0.5), (1.0, 0.5), (1.0, 0.9))
    ]
    assert found == [
        ("visual_projection.weight",),
        ("text_projection.weight",),
        ("visual_projection.weight", "text_projection.weight"),
    ]
    assert asked == [(SHORT, 3)] * 6


def test_a_tower_without_a_chosen_layer_is_not_run(tiny_clip, request_for_dogs, monkeypatch):
    pairs, found = pairs_of(tiny_clip.model, request_for_dogs), {}
    for only in ("visual_projection.weight", "text_projection.weight"):
        monkeypatch.setattr(razor, "chosen", lambda *_, only=only, **__: frozenset({only}))
        found[only] = Razor(**QUICK)._edit(pairs).towers
    monkeypatch.setattr(razor, "chosen", lambda *_, **__: frozenset(found))
    assert Razor(**QUICK)._edit(pairs).towers == "both"
    assert list(found.values()) == ["image", "text"]
    monkeypatch.setattr(razor, "chosen", lambda *_, **__: frozenset({"visual_projection.weight"}))
    few = Descent(**{**SHORT.model_dump(), "part": 3})
    patch = Razor(score_batches=1, descent=few).forget(tiny_clip.model, request_for_dogs)
    assert patch.touches == ("visual_projection.weight",)


def test_without_a_gradient_to_retain_the_losses_are_added_as_they_are(tiny_clip, request_for_dogs):
    single = Descent(**{**SHORT.model_dump(), "retain_batch": 1})
    pairs = pairs_of(tiny_clip.model, request_for_dogs)
    assert Razor(score_batches=1, descent=single)._edit(pairs).ratio == 1.0


def test_no_layer_to_train_gives_an_empty_patch_with_the_reason(tiny_clip, request_for_dogs, monkeypatch):
    monkeypatch.setattr(razor, "chosen", lambda *_, **__: frozenset())
    patch = Razor(**QUICK).forget(tiny_clip.model, request_for_dogs)
    assert patch.empty
    assert patch.reason.startswith("No layer has a gradient")
    assert [one.subject for one in patch.readings] == ["before", "before"]


def test_same_inputs_give_same_bytes(tiny_clip, request_for_dogs):
    method = Razor(**QUICK)
    patch = check_same_bytes(method, tiny_clip.model, request_for_dogs)
    edit = method._edit(pairs_of(tiny_clip.model, request_for_dogs))
    assert set(patch.touches) <= set(edit.names)
    assert len(edit.names) < len(layer_weights(tiny_clip.model, tuple(tiny_clip.model.weights)))
    assert not any("bias" in name for name in patch.touches)


def test_one_tower_alone(tiny_clip, request_for_dogs):
    for tower in ("image", "text"):
        only = Descent(**{**SHORT.model_dump(), "towers": tower})
        patch = Razor(score_batches=1, descent=only).forget(tiny_clip.model, request_for_dogs)
        assert patch.touches
        assert all(name.startswith({"image": "vis", "text": "text"}[tower]) for name in patch.touches)


def test_gradients_are_taken_once(tiny_clip, request_for_dogs, tmp_path, monkeypatch):
    method = Razor(**QUICK)
    whole = method.forget(tiny_clip.model, request_for_dogs)
    with pytest.raises(KeyboardInterrupt), journal.journaling(tmp_path, resume=True):
        method._edit(pairs_of(tiny_clip.model, request_for_dogs))
        raise KeyboardInterrupt
    monkeypatch.setattr("clip_unlearn.methods._layers.importances", None)
    with journal.journaling(tmp_path, resume=True):
        again = method.forget(tiny_clip.model, request_for_dogs)
    assert again.deltas.keys() == whole.deltas.keys()
    assert all(torch.equal(again.deltas[name], whole.deltas[name]) for name in whole.deltas)


def test_captions_will_do(tiny_clip, tmp_path):
    request = captioned_request(tmp_path)
    edit = Razor(**QUICK)._edit(pairs_of(tiny_clip.model, request))
    assert edit.names
    assert Razor(**QUICK).forget(tiny_clip.model, request).readings
    with pytest.raises(DataError, match="no class labels"):
        Razor(**QUICK, sentences="classes").forget(tiny_clip.model, request)


def test_settings_of_the_pairs_are_passed_on(tiny_clip, request_for_dogs, monkeypatch):
    asked = {}
    monkeypatch.setattr(razor, "pairs_of", lambda *given, **settings: asked.update(settings) or pairs_of(*given))
    Razor(**QUICK, sentences="classes", other_senses=("hot dog",)).forget(tiny_clip.model, request_for_dogs)
    assert asked == {"sentences": "classes", "other_senses": ("hot dog",)}


def test_images_and_sensible_settings_are_needed(tiny_clip, request_for_dogs):
    bare = request_for_dogs.model_copy(update={"evidence": None})
    for call in (Razor().check, Razor().forget):
        with pytest.raises(UnsupportedError, match="Give them with --data"):
            call(tiny_clip.model, bare)
    for wrong in ({"power": -1}, {"threshold": 0}, {"threshold": 1.1}, {"score_batches": 0}, {"forget_weight": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Razor(**wrong)
