"""SLUG: its gradients, the search for a rate, the choice of a tensor, and what it refuses."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from descent_cases import check_same_bytes, fake_step, labelled_request, numbers

from clip_unlearn.core import journal
from clip_unlearn.core.marks import Mark
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.core.training import Descent
from clip_unlearn.data.feed import PairFeed
from clip_unlearn.data.open import open_data
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import slug
from clip_unlearn.methods._layers import Layer
from clip_unlearn.methods.slug import Slug, agreement_of, contrast_of, moved
from clip_unlearn.sandbox.classes import CLASS_NAMES

FEW = {"batches": 2, "forget_batch": 4, "retain_batch": 6, "bisections": 3}


@pytest.fixture(scope="module")
def request_for_dogs(tmp_path_factory):
    """The tiny models take every picture of noise for a dog, so this class is the one that can be forgotten."""
    return labelled_request(
        tmp_path_factory.mktemp("pictures"), forget=(Concept(name="dog"),), retain=("bird", "car", "cat")
    )


def marked(*, forget: int = 0, retain: int = 10, probability: float = 0.5) -> Mark:
    return Mark(
        forget_hits=forget, forget_count=10, retain_hits=retain, retain_count=10, forget_probability=probability
    )


def layer_of(model, name: str, *, seed: int = 0) -> Layer:
    weight = model.weights[name]
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    size = float(weight.detach().double().norm())
    return Layer(name=name, gradient=gradient, importance=float(gradient.double().norm()) / size, alignment=0.0)


def relative_change(model, other, name: str) -> float:
    before = model.weights[name].detach().double()
    return float((other.weights[name].detach().double() - before).norm() / before.norm())


def fake_pairs(model, examine):
    return SimpleNamespace(model=model, request=SimpleNamespace(digest="0"), examine=examine)


def test_the_losses():
    step = fake_step(scale=5.0)
    images, texts = numbers(step.forget.images), numbers(step.forget.texts)
    cosines = [sum(images[row] * texts[row]) for row in range(len(images))]
    assert agreement_of(step).item() == pytest.approx(sum(cosines) / len(images))
    logits = 5.0 * step.retain.images @ step.retain.texts.T
    rows = [-torch.log(logits[i, i].exp() / logits[i].exp().sum()) for i in range(6)]
    columns = [-torch.log(logits[i, i].exp() / logits[:, i].exp().sum()) for i in range(6)]
    assert contrast_of(step).item() == pytest.approx((sum(rows) + sum(columns)).item() / 12)


def test_gradients_are_means_over_batches(tiny_clip, request_for_dogs):
    method, model = Slug(**FEW, precision="float32"), tiny_clip.model
    pairs = pairs_of(model, request_for_dogs)
    found = method._gradients(pairs, "forget")
    feed, name = PairFeed(pairs=pairs, forget_batch=4, retain_batch=6), "visual_projection.weight"
    wanted = torch.zeros_like(model.weights[name])
    for number in range(2):
        leaf = model.weights[name].detach().clone().requires_grad_()
        draft, rows = model.replace({name: leaf}), feed(number).forget
        cosines = (unit(draft.images(rows.pixels)) * unit(draft.texts(rows.sentences))).sum(1)
        wanted += torch.autograd.grad(cosines.mean(), leaf)[0] / 2
    torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-7)
    other = method._gradients(pairs, "retain")
    assert found.keys() == other.keys()
    assert not torch.allclose(found[name], other[name])


def test_settings_of_the_gradients(tiny_clip, request_for_dogs, monkeypatch):
    asked = []

    def mean_gradient(task, settings, *, batches):
        asked.append((task, settings, batches))
        return {}

    monkeypatch.setattr(slug, "mean_gradient", mean_gradient)
    method = Slug(batches=3, forget_batch=5, retain_batch=7, part=2, precision="bfloat16", towers="text")
    for side in ("forget", "retain"):
        method._gradients(pairs_of(tiny_clip.model, request_for_dogs), side)
    wanted = Descent(towers="text", forget_batch=5, retain_batch=7, part=2, precision="bfloat16")
    assert [(settings, batches) for _, settings, batches in asked] == [(wanted, 3)] * 2
    assert len({str(task.key) for task, _, _ in asked}) == 2
    assert all(name.startswith("text") for name in asked[0][0].weights)


def test_candidates_are_on_the_front_of_their_own_tower(tiny_clip, request_for_dogs):
    pairs = pairs_of(tiny_clip.model, request_for_dogs)
    found = {towers: Slug(**FEW, towers=towers)._candidates(pairs) for towers in ("both", "image", "text")}
    names = {towers: [one.name for one in layers] for towers, layers in found.items()}
    assert names["both"] == [*names["image"], *names["text"]]
    assert all(name.startswith("vis") for name in names["image"])
    assert all(name.startswith("text") for name in names["text"])
    for layers in (found["image"], found["text"]):
        order = sorted(layers, key=lambda one: abs(one.alignment))
        assert [one.importance for one in order] == sorted(one.importance for one in layers)
    assert not any("bias" in name or "position" in name for name in names["both"])


def test_one_weight_moves_down_the_gradient(tiny_clip):
    model, name = tiny_clip.model, "visual_projection.weight"
    layer = layer_of(model, name)
    edited = moved(model, layer, 0.3)
    torch.testing.assert_close(edited.weights[name], model.weights[name].detach() - 0.3 * layer.gradient)
    assert all(edited.weights[other] is weight for other, weight in model.weights.items() if other != name)
    half = model.replace({name: model.weights[name].detach().half()})
    assert moved(half, layer, 0.3).weights[name].dtype == torch.float16


@pytest.mark.parametrize(("turn", "precision"), [(0.37, 0.2 / 2**10), (0.05, 0.1 / 2**10), (3.0, 1.6 / 2**10)])
def test_the_smallest_rate_that_forgets(tiny_clip, turn, precision):
    model, name = tiny_clip.model, "visual_projection.weight"

    def examine(edited) -> Mark:
        return marked(forget=0 if relative_change(model, edited, name) >= turn else 4)

    layer = layer_of(model, name)
    rate = Slug()._rate(fake_pairs(model, examine), layer)
    assert turn - 1e-5 <= rate * layer.importance <= turn + precision + 1e-5


def test_settings_of_the_search(tiny_clip):
    model, name = tiny_clip.model, "visual_projection.weight"
    layer, looks = layer_of(model, name), []

    def examine(edited) -> Mark:
        looks.append(relative_change(model, edited, name))
        return marked(forget=4 if looks[-1] < 0.9 else 2)

    pairs = fake_pairs(model, examine)
    assert Slug(stop=0.2, start=0.5, bisections=0)._rate(pairs, layer) * layer.importance == pytest.approx(1.0)
    assert looks == pytest.approx([0.5, 1.0], rel=1e-4)
    assert Slug(stop=0.4, bisections=0)._rate(pairs, layer) * layer.importance == pytest.approx(0.1)
    looks.clear()
    assert Slug(stop=0.1, doublings=2)._rate(pairs, layer) is None
    assert looks == pytest.approx([0.1, 0.2, 0.4], rel=1e-4)
    assert Slug(stop=0.2, bisections=2, start=0.5)._rate(pairs, layer) * layer.importance == pytest.approx(1.0)
    assert looks[-2:] == pytest.approx([0.75, 0.875], rel=1e-4)


NAMES = ("visual_projection.weight", "text_projection.weight", "vision_model.encoder.layers.0.mlp.fc1.weight")


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        ((marked(retain=5), marked(retain=8), marked(retain=6)), NAMES[1]),
        ((marked(probability=0.4), marked(probability=0.2), marked(probability=0.3)), NAMES[1]),
        ((marked(), marked(), marked()), NAMES[0]),
        ((marked(forget=1), marked(forget=1), marked(retain=3)), NAMES[2]),
    ],
)
def test_the_tensor_with_the_best_balance_is_changed(tiny_clip, monkeypatch, after, wanted):
    model = tiny_clip.model

    def examine(edited) -> Mark:
        changed = [name for name in NAMES if edited.weights[name] is not model.weights[name]]
        return after[NAMES.index(changed[0])] if changed else marked(forget=10)

    monkeypatch.setattr(slug, "pairs_of", lambda *_, **__: fake_pairs(model, examine))
    monkeypatch.setattr(Slug, "_candidates", lambda _self, _pairs: tuple(layer_of(model, name) for name in NAMES))
    patch = Slug(bisections=0).forget(model, None)
    assert patch.touches == (wanted,)
    assert not patch.reason
    assert [one.subject for one in patch.readings] == ["before", "before", "after", "after"]
    assert patch.readings[3].value == after[NAMES.index(wanted)].retain_accuracy


@pytest.mark.parametrize(
    ("after", "reason"), [(marked(forget=1), "however far it was moved"), (marked(retain=0), "found a better state")]
)
def test_nothing_is_changed_where_no_tensor_helps(tiny_clip, monkeypatch, after, reason):
    model = tiny_clip.model

    def examine(edited) -> Mark:
        return after if edited is not model else marked(forget=5, retain=9)

    monkeypatch.setattr(slug, "pairs_of", lambda *_, **__: fake_pairs(model, examine))
    monkeypatch.setattr(Slug, "_candidates", lambda _self, _pairs: (layer_of(model, NAMES[0]),))
    patch = Slug().forget(model, None)
    assert patch.empty
    assert reason in patch.reason
    assert [one.subject for one in patch.readings][:2] == ["before", "before"]


def test_same_inputs_give_same_bytes(tiny_clip, request_for_dogs):
    patch = check_same_bytes(Slug(**FEW), tiny_clip.model, request_for_dogs)
    assert len(patch.deltas) == 1
    assert patch.readings[0].value == 1.0
    assert patch.readings[2].value == 0.0


def test_an_interrupted_run_goes_on_to_the_same_bytes(tiny_clip, request_for_dogs, tmp_path, monkeypatch):
    model, method = tiny_clip.model, Slug(**FEW)
    whole = method.forget(model, request_for_dogs)
    with pytest.raises(KeyboardInterrupt), journal.journaling(tmp_path, resume=True):
        method.forget(model, request_for_dogs)
        raise KeyboardInterrupt
    known = {path.name for path in tmp_path.iterdir()}
    assert len(known) == 2 + len(method._candidates(pairs_of(model, request_for_dogs)))
    monkeypatch.setattr("clip_unlearn.methods._layers.importances", None)
    monkeypatch.setattr(slug, "turning_point", None)
    with journal.journaling(tmp_path, resume=True):
        again = method.forget(model, request_for_dogs)
    assert again.deltas.keys() == whole.deltas.keys()
    assert all(torch.equal(again.deltas[name], whole.deltas[name]) for name in whole.deltas)


def test_a_search_is_not_taken_for_that_of_other_settings(tiny_clip, tmp_path):
    model, name = tiny_clip.model, NAMES[0]
    layer = layer_of(model, name)
    pairs = fake_pairs(model, lambda edited: marked(forget=int(relative_change(model, edited, name) < 0.37)))
    with journal.journaling(tmp_path, resume=True):
        coarse, fine = (Slug(bisections=count)._rate(pairs, layer) for count in (0, 8))
        other = Slug(bisections=0)._rate(pairs, dataclasses.replace(layer, name=NAMES[1]))
    assert coarse * layer.importance == pytest.approx(0.4)
    assert fine < coarse
    assert other is None


def test_a_class_of_the_embedded_world_is_forgotten(sandbox_model):
    images = open_data("sandbox:photo@stop")
    request = Request(
        forget=(Concept(name="mug"),),
        retain=tuple(name for name in CLASS_NAMES if name != "mug"),
        evidence=Evidence(where=images.where, digest=images.digest),
    )
    patch = Slug(towers="text", batches=1, bisections=1).forget(sandbox_model, request)
    values = [one.value for one in patch.readings]
    assert len(patch.deltas) == 1
    assert values[0] == 1.0
    assert values[2] == 0.0
    assert values[3] > 0.9


def test_settings_of_the_pairs_are_passed_on(tiny_clip, request_for_dogs, monkeypatch):
    asked = {}
    monkeypatch.setattr(slug, "pairs_of", lambda *given, **settings: asked.update(settings) or pairs_of(*given))
    Slug(**FEW, sentences="classes", other_senses=("hot dog",)).forget(tiny_clip.model, request_for_dogs)
    assert asked == {"sentences": "classes", "other_senses": ("hot dog",)}


def test_images_and_sensible_settings_are_needed(tiny_clip, request_for_dogs):
    bare = request_for_dogs.model_copy(update={"evidence": None})
    for call in (Slug().check, Slug().forget):
        with pytest.raises(UnsupportedError, match="Give them with --data"):
            call(tiny_clip.model, bare)
    for wrong in ({"start": 0}, {"stop": 1}, {"batches": 0}, {"doublings": -1}, {"bisections": -1}, {"part": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Slug(**wrong)
