"""NegMerge: what the models learn, how they are merged, which factor is taken, and what is refused."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from descent_cases import (
    SHORT,
    captioned_request,
    check_gradient,
    check_same_bytes,
    cross_entropy,
    fake_step,
    labelled_request,
    log_probabilities,
    numbers,
    reached,
)

from clip_unlearn.core import journal
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.training import Descent
from clip_unlearn.data.open import open_data
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.methods import negmerge
from clip_unlearn.methods.negmerge import Negmerge, captions_of, classes_of, merged, negated
from clip_unlearn.sandbox.classes import CLASS_NAMES

QUICK = {"models": 2, "bisections": 3, "descent": SHORT}
NAME = "visual_projection.weight"


@pytest.fixture(scope="module")
def request_for_dogs(tmp_path_factory):
    """The tiny models take every picture of noise for a dog, so this class is the one that can be forgotten."""
    return labelled_request(
        tmp_path_factory.mktemp("pictures"), forget=(Concept(name="dog"),), retain=("bird", "car", "cat")
    )


def marked(*, forget: int = 0, retain: int = 100) -> Mark:
    return Mark(forget_hits=forget, forget_count=10, retain_hits=retain, retain_count=100, forget_probability=0.5)


def changes(count: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(count)
    shapes = {"a": (3, 4), "b": (5,)}
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_entries_whose_signs_agree_are_averaged(count):
    some = changes(count)
    found, whole = (merged(iter(some), consensus=consensus) for consensus in (True, False))
    kept = []
    for name in ("a", "b"):
        stack = np.array([one[name].flatten().tolist() for one in some])
        for place, entries in enumerate(stack.T):
            mean = sum(entries) / count
            agrees = all(entry > 0 for entry in entries) or all(entry < 0 for entry in entries)
            kept.append(agrees)
            assert float(found[name].flatten()[place]) == pytest.approx(mean if agrees else 0.0, abs=1e-6)
            assert float(whole[name].flatten()[place]) == pytest.approx(mean, abs=1e-6)
    assert all(kept) == (count == 1)
    assert any(kept)


def test_an_entry_that_some_model_leaves_alone_is_not_agreed_on():
    some = [{"a": torch.tensor([2.0, 0.0, -2.0, 0.0])}, {"a": torch.tensor([0.0, 2.0, -4.0, 0.0])}]
    assert merged(some, consensus=True)["a"].tolist() == [0.0, 0.0, -3.0, 0.0]
    assert merged(some, consensus=False)["a"].tolist() == [1.0, 1.0, -3.0, 0.0]


def test_a_sign_that_was_lost_does_not_come_back():
    some = [{"a": torch.tensor([sign])} for sign in (1.0, -1.0, 1.0, 1.0)]
    assert merged(some, consensus=True)["a"].tolist() == [0.0]


def test_the_opposite_way(tiny_clip):
    model = tiny_clip.model
    change = {NAME: torch.randn(model.weights[NAME].shape, generator=torch.Generator().manual_seed(1))}
    edited = negated(model, change, 1.5)
    torch.testing.assert_close(edited.weights[NAME], model.weights[NAME].detach() - 1.5 * change[NAME])
    assert all(edited.weights[other] is weight for other, weight in model.weights.items() if other != NAME)
    half = model.replace({NAME: model.weights[NAME].detach().half()})
    assert negated(half, change, 1.5).weights[NAME].dtype == torch.float16


def test_the_losses():
    step = fake_step(2)
    wanted = cross_entropy(step.forget.images, step.names, step.forget.labels, step.scale)
    assert classes_of(step).item() == pytest.approx(wanted, abs=1e-9)
    logits = step.scale * numbers(step.forget.images) @ numbers(step.forget.texts).T
    both = (log_probabilities(logits), log_probabilities(logits.T))
    contrast = -sum(float(np.mean([found[row][row] for row in range(4)])) for found in both) / 2
    assert captions_of(step).item() == pytest.approx(contrast, abs=1e-9)
    assert reached(classes_of(step), step) == {"forget.images", "names"}
    assert reached(captions_of(step), step) == {"forget.images", "forget.texts"}
    for loss in (classes_of, captions_of):
        check_gradient(loss, lambda: fake_step(2))


def recorded(monkeypatch, method: Negmerge, pairs) -> list[tuple]:
    """Return the tasks and settings of all models that a method would fine-tune, none of which changes anything."""
    found = []

    def descend(task, settings):
        found.append((task, settings))
        return SimpleNamespace(model=task.model)

    monkeypatch.setattr(negmerge, "descend", descend)
    list(method._changes(pairs))
    return found


def test_models_differ_in_rate_and_batches(tiny_clip, request_for_dogs, monkeypatch):
    pairs = pairs_of(tiny_clip.model, request_for_dogs)
    found = recorded(monkeypatch, Negmerge(models=3, spread=4.0, descent=SHORT), pairs)
    assert [settings.rate for _, settings in found] == pytest.approx([SHORT.rate / 2, SHORT.rate, SHORT.rate * 2])
    first, rest = found[0][0].feed, [task.feed for task, _ in found[1:]]
    for place, feed in enumerate(rest, start=1):
        for number in (0, 1):
            assert feed(number).forget.rows == first(number + place * SHORT.steps).forget.rows
    assert len({task.feed(0).forget.rows for task, _ in found}) > 1
    assert len({str(task.key) for task, _ in found}) == 3
    assert all(task.examine is None and task.loss is classes_of for task, _ in found)
    assert all(task.model is tiny_clip.model for task, _ in found)
    single = recorded(monkeypatch, Negmerge(models=1, spread=4.0, descent=SHORT), pairs)
    assert [settings.rate for _, settings in single] == [SHORT.rate]


def test_captions_are_learned_by_contrast(tiny_clip, tmp_path, monkeypatch):
    request = captioned_request(tmp_path)
    found = recorded(monkeypatch, Negmerge(**QUICK), pairs_of(tiny_clip.model, request))
    assert all(task.loss is captions_of for task, _ in found)
    monkeypatch.undo()
    assert Negmerge(**QUICK).forget(tiny_clip.model, request).readings
    with pytest.raises(DataError, match="no class labels"):
        Negmerge(**QUICK, sentences="classes").forget(tiny_clip.model, request)


def test_each_model_learns_what_is_to_be_forgotten(tiny_clip, request_for_dogs):
    model, pairs = tiny_clip.model, pairs_of(tiny_clip.model, request_for_dogs)
    longer = Descent(**{**SHORT.model_dump(), "steps": 10})
    found = list(Negmerge(models=2, descent=longer)._changes(pairs))
    assert found[0].keys() == found[1].keys()
    assert not torch.equal(found[0][NAME], found[1][NAME])
    before = pairs.examine(model).forget_probability
    for change in found:
        assert pairs.examine(negated(model, change, -1.0)).forget_probability > before
        assert pairs.examine(negated(model, change, 1.0)).forget_probability < before


def factor_of(method: Negmerge, look, accuracy: float = 1.0) -> tuple[float, list[float]]:
    """Return the factor that a method chooses where marks are a function of the factor, and all that it tried."""
    tried = []
    model = SimpleNamespace(weights={})

    def examine(factor: float) -> Mark:
        tried.append(factor)
        return look(factor)

    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(negmerge, "negated", lambda _model, _change, factor: factor)
        return method._factor(SimpleNamespace(model=model, examine=examine), {}, accuracy), tried


def test_the_largest_factor_that_keeps_enough():
    def look(factor: float) -> Mark:
        return marked(retain=100 - int(2 * factor), forget=10 if factor < 1.1 else 0)

    found, tried = factor_of(Negmerge(), look)
    assert tried[:3] == [1.0, 2.0, 4.0]
    assert found < 3.0 <= found + 2 / 2**10
    assert 100 - int(2 * found) == 95
    assert factor_of(Negmerge(keep=0.9), look)[0] == pytest.approx(5.5, abs=0.01)
    assert factor_of(Negmerge(bisections=0), look)[0] == 2.0
    assert factor_of(Negmerge(), look, accuracy=0.9)[0] == pytest.approx(7.5, abs=0.01)
    assert factor_of(Negmerge(doublings=1), look)[0] == 2.0
    assert factor_of(Negmerge(doublings=0), lambda _: marked(retain=0))[0] < 1e-3
    assert factor_of(Negmerge(factor="enough", bisections=3), lambda _: marked(retain=0))[0] == 0.0


def test_the_smallest_factor_that_forgets_as_much():
    def look(factor: float) -> Mark:
        return marked(retain=100 - int(2 * factor), forget=max(2, 10 - int(4 * factor)))

    assert factor_of(Negmerge(factor="largest"), look)[0] == pytest.approx(3.0, abs=0.01)
    found, _ = factor_of(Negmerge(factor="enough"), look)
    assert 2.0 <= found < 2.01
    assert look(found).forget_hits == 2


def test_models_that_agree_on_nothing_change_nothing(tiny_clip, request_for_dogs, monkeypatch):
    shape = tiny_clip.model.weights[NAME].shape
    both = [{NAME: torch.ones(shape)}, {NAME: -2 * torch.ones(shape)}]
    monkeypatch.setattr(Negmerge, "_changes", lambda _self, _pairs: iter(both))
    patch = Negmerge().forget(tiny_clip.model, request_for_dogs)
    assert patch.empty
    assert patch.reason.startswith("No entry of any weight")
    assert Negmerge(consensus=False, bisections=0).forget(tiny_clip.model, request_for_dogs).reason != patch.reason


def test_a_model_that_is_no_better_is_not_taken(tiny_clip, request_for_dogs, monkeypatch):
    change = {NAME: torch.randn(tiny_clip.model.weights[NAME].shape, generator=torch.Generator().manual_seed(1))}
    monkeypatch.setattr(Negmerge, "_changes", lambda _self, _pairs: iter([change]))
    monkeypatch.setattr("clip_unlearn.data.pairs.Pairs.examine", lambda _self, _model: marked(forget=3, retain=90))
    patch = Negmerge().forget(tiny_clip.model, request_for_dogs)
    assert patch.empty
    assert patch.reason
    assert len(patch.readings) == 4


def test_same_inputs_give_same_bytes(tiny_clip, request_for_dogs):
    patch = check_same_bytes(Negmerge(**QUICK), tiny_clip.model, request_for_dogs)
    assert any(name.startswith("text") for name in patch.touches)
    assert any(name.startswith("vis") for name in patch.touches)
    image = Descent(**{**SHORT.model_dump(), "towers": "image"})
    only = Negmerge(models=2, bisections=3, descent=image).forget(tiny_clip.model, request_for_dogs)
    assert only.touches
    assert all(name.startswith("vis") for name in only.touches)


def test_a_model_that_is_done_is_not_trained_again(tiny_clip, request_for_dogs, tmp_path, monkeypatch):
    method, whole = Negmerge(**QUICK), Negmerge(**QUICK).forget(tiny_clip.model, request_for_dogs)
    pairs = pairs_of(tiny_clip.model, request_for_dogs)
    with pytest.raises(KeyboardInterrupt), journal.journaling(tmp_path, resume=True):
        list(method._changes(pairs))
        raise KeyboardInterrupt
    monkeypatch.setattr(negmerge, "descend", None)
    with journal.journaling(tmp_path, resume=True):
        again = method.forget(tiny_clip.model, request_for_dogs)
    assert again.deltas.keys() == whole.deltas.keys()
    assert all(torch.equal(again.deltas[name], whole.deltas[name]) for name in whole.deltas)


def test_a_class_of_the_embedded_world_is_forgotten(sandbox_model):
    images = open_data("sandbox:photo@stop")
    request = Request(
        forget=(Concept(name="mug"),),
        retain=tuple(name for name in CLASS_NAMES if name != "mug"),
        evidence=Evidence(where=images.where, digest=images.digest),
    )
    method = Negmerge(models=2, bisections=2, descent=Descent(steps=6, rate=2e-3))
    values = [one.value for one in method.forget(sandbox_model, request).readings]
    assert values[0] == 1.0
    assert values[2] <= 0.25
    assert values[3] >= 0.95 * values[1]


def test_images_to_choose_the_factor_by_are_needed(tiny_clip, request_for_dogs, monkeypatch):
    pairs = dataclasses.replace(pairs_of(tiny_clip.model, request_for_dogs), held_retain=())
    monkeypatch.setattr(negmerge, "pairs_of", lambda *_, **__: pairs)
    with pytest.raises(DataError, match=r"held out.*Give at least two images of some other class\.$"):
        Negmerge(**QUICK).forget(tiny_clip.model, request_for_dogs)


def test_settings_of_the_pairs_are_passed_on(tiny_clip, request_for_dogs, monkeypatch):
    asked = {}
    monkeypatch.setattr(negmerge, "pairs_of", lambda *given, **settings: asked.update(settings) or pairs_of(*given))
    Negmerge(**QUICK, sentences="classes", other_senses=("hot dog",)).forget(tiny_clip.model, request_for_dogs)
    assert asked == {"sentences": "classes", "other_senses": ("hot dog",)}


def test_images_and_sensible_settings_are_needed(tiny_clip, request_for_dogs):
    bare = request_for_dogs.model_copy(update={"evidence": None})
    for call in (Negmerge().check, Negmerge().forget):
        with pytest.raises(UnsupportedError, match="Give them with --data"):
            call(tiny_clip.model, bare)
    for wrong in ({"models": 0}, {"spread": 0.5}, {"keep": 0}, {"keep": 1.1}, {"doublings": -1}, {"bisections": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Negmerge(**wrong)
    with pytest.raises(ValueError, match="smaller spread"):
        Negmerge(spread=9.0, descent=Descent(rate=5.0))
