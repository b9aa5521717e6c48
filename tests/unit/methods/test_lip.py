"""Forgetting by smoothing: what is forgotten and kept, what rounds undo, what nothing depends on."""

import copy
import dataclasses
import functools

import pytest
import torch
from torch import nn

from clip_unlearn.core import journal
from clip_unlearn.core.config import build
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, SettingError, UnsupportedError
from clip_unlearn.files import digest
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _ground, lip
from clip_unlearn.methods._examination import Examination, Marks
from clip_unlearn.methods._ground import Material, Wish, names_side, pictures_side, real, synthetic
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.methods.lip import Lip
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis.ascend import Ascent
from clip_unlearn.synthesis.studio import Studio

FEW = {"pictures": 6, "stop_pictures": 3, "held_pictures": 8, "noise_draws": 1}
SHORT = {**FEW, "rounds": 2}
NOTHING = {**FEW, "rounds": 1, "text_change": 1e-6, "image_change": 1e-6}
SELECT = "sandbox:photo@select"
WISH = Wish(learn=4, stop=3, held=8, ascent=Lip().ascent)


def about(*concepts: str, **rest) -> Request:
    asked = tuple(Concept.model_validate(text) for text in concepts)
    own = {name for concept in asked for name in concept.names}
    return Request(**{"forget": asked, "retain": tuple(name for name in CLASS_NAMES if name not in own), **rest})


def with_images(*concepts: str) -> Request:
    return about(*concepts, evidence=Evidence(where=SELECT, digest=open_data(SELECT).digest))


@functools.cache
def photographs():
    """Return photographs of every class from the stream that nothing learns from."""
    images = open_data("sandbox:photo@audit")
    return images.take(place for place, key in enumerate(images.keys) if int(key.rpartition("/")[2]) < 8)


def shares(model) -> dict[str, float]:
    """Return the share of the photographs of every class that is recognised."""
    images = photographs()
    found = embed_images(model, images)
    with torch.no_grad():
        rows = model.texts([f"a photo of a {name}." for name in images.classes])
    hits = ranks(cosines(found.vectors, rows), torch.tensor(images.labels)) == 1
    labels = torch.tensor(images.labels)
    return {name: float(hits[labels == place].float().mean()) for place, name in enumerate(images.classes)}


def kept(before: dict[str, float], after: dict[str, float], *gone: str) -> float:
    """Return what share of their accuracy the other classes keep."""
    others = [name for name in before if name not in gone]
    return sum(after[name] for name in others) / sum(before[name] for name in others)


def same(first, second) -> bool:
    """Return whether two patches agree in every byte and word."""
    told = (first.reason, first.readings, list(first.deltas)) == (second.reason, second.readings, list(second.deltas))
    return told and all(torch.equal(delta, second.deltas[name]) for name, delta in first.deltas.items())


@pytest.fixture(scope="session")
def album():
    """Return pictures that tests of this file share, by all that they depend on."""
    return {}


@pytest.fixture
def shared(monkeypatch, album):
    """Take pictures that an earlier test of this file made, where all they depend on is the same."""
    make = Studio.pictures

    def pictures(self, shots):
        key = digest.of_json(self.key(shots))
        if key not in album:
            album[key] = make(self, shots)
        return album[key]

    monkeypatch.setattr(Studio, "pictures", pictures)


@functools.cache
def forgotten_mug():
    """Return the patch of the default settings."""
    return Lip().forget(open_model("sandbox"), about("mug"))


@functools.cache
def accuracies_before():
    return shares(open_model("sandbox"))


def test_photographs_are_forgotten_and_the_others_are_kept():
    """Pictures that nothing was learned from, of a class no picture of which was given."""
    before, after = accuracies_before(), shares(forgotten_mug().apply(open_model("sandbox")))
    assert before["mug"] == 1
    assert after["mug"] <= 0.125
    assert kept(before, after, "mug") > 0.95


def test_readings_tell_of_the_pictures_held_out():
    found = {(one.name, one.subject): one for one in forgotten_mug().readings}
    assert len(found) == len(forgotten_mug().readings) == 4
    for subject, value in (("before", 1.0), ("after", 0.0)):
        forget, retain = (found[f"synthetic {what} accuracy", subject] for what in ("forget", "retain"))
        assert (forget.count, forget.better, forget.of, forget.value) == (8, "low", "mug", value)
        assert (retain.count, retain.better, retain.of) == (6, "high", "mug")  # every fourth of 24, all recognised
        assert retain.value > 0.8
        assert forget.low <= forget.value <= forget.high  # 8 pictures: steps of 1/8 and a wide interval
        assert forget.high - forget.low > 0.2


def test_synonyms_are_counted_and_moved_too(shared):
    """One reading per pair of picture and name; every sentence of every name goes somewhere."""
    model, request = open_model("sandbox"), about("mug | cup | beaker")
    patch = Lip(**SHORT).forget(model, request)
    assert [one.count for one in patch.readings if one.name == "synthetic forget accuracy"] == [9, 9]
    side = names_side(model, request, (), 0.25, 8)
    assert {*side.moving} >= {"a photo of a mug.", "a picture of a cup.", "beaker", "a close-up of a cup."}
    assert len(side.moving) == 12


def test_names_go_past_the_place_of_other_nouns():
    """unit(n - beyond (t - (n t) n)), number by number."""
    model, request = open_model("sandbox"), about("mug", retain=("cat", "car"))
    side = names_side(model, request, (), 0.25, 8)
    place = side.moving.index("a picture of a mug.")
    with torch.no_grad():
        own, cat, car = (
            row / row.norm() for row in model.texts([f"a picture of a {n}." for n in ("mug", "cat", "car")])
        )
    neutral = (cat + car) / (cat + car).norm()
    wanted = neutral - 0.25 * (own - (own @ neutral) * neutral)
    torch.testing.assert_close(side.places[place], wanted / wanted.norm(), rtol=0, atol=1e-5)
    assert {*side.holding} == {"a photo of a cat.", "a photo of a car."}


def test_what_is_gone_already_is_held_where_it_is_now():
    model, request = open_model("sandbox"), about("mug", retain=("cat", "car"))
    side = names_side(model, request, about("bowl | dish").forget, 0.25, 8)
    assert {*side.holding} == {f"a photo of a {name}." for name in ("cat", "car", "bowl", "dish")}
    with torch.no_grad():
        torch.testing.assert_close(side.stays, unit(model.texts(side.holding)), rtol=0, atol=1e-5)
        nearness = side.stays @ unit(model.texts(["a photo of a mug."]))[0]
    assert nearness.tolist() == sorted(nearness.tolist(), reverse=True)


def check_apart(material: Material, concepts: int) -> None:
    """Check that no picture is in two parts, and that each concept has some in both."""
    parts = [material.learn, material.stop, material.held, material.kept]
    everything = torch.cat(parts)
    assert len({picture.numpy().tobytes() for picture in everything}) == len(everything)
    for part, owners in ((material.learn, material.learn_owners), (material.stop, material.stop_owners)):
        assert len(part) == len(owners)
        assert {*owners.tolist()} == {*range(concepts)}
    assert len(material.kept) == len(material.shown)


def test_pictures_to_learn_from_are_none_of_those_held_out(shared):
    model, request = open_model("sandbox"), about("mug", "cat")
    material = synthetic(model, request, WISH)
    check_apart(material, 2)
    assert (len(material.learn), len(material.stop)) == (8, 6)
    assert len(material.kept) == (len(material.held) + len(material.kept)) // 4


def test_pictures_are_in_one_pixel_space_and_recognised_there(shared):
    """Brightness in [0, 1], normalised once: what is learned from and examined is what was accepted."""
    model, request = open_model("sandbox"), about("mug", "cat")
    material, space = synthetic(model, request, WISH), model.adapter.pixels
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (space.mean, space.deviation))
    with torch.no_grad():
        rows = unit(model.texts([f"a photo of a {name}." for name in (*request.forget_names, *request.retain)]))
    for part, labels in (
        (material.learn, material.learn_owners), (material.stop, material.stop_owners),
        (material.kept, material.shown + 2),
    ):  # fmt: skip
        brightness = part * deviation + mean
        assert -1e-5 <= float(brightness.min()) < 0.2 < 0.8 < float(brightness.max()) <= 1 + 1e-5
        with torch.no_grad():
            probabilities = (model.logit_scale * unit(model.images(part)) @ rows.T).softmax(1)
        assert float(probabilities[range(len(part)), labels].min()) > 0.499


def test_what_moves_and_what_decides_are_those_parts(shared, monkeypatch):
    seen: dict[str, object] = {}
    real_side, real_examination = lip.pictures_side, lip.examination

    def side(model, request, material, draws, batch):
        seen.update(material=material, side=real_side(model, request, material, draws, batch))
        return seen["side"]

    def examination(model, request, material):
        seen.update(examination=real_examination(model, request, material))
        return seen["examination"]

    monkeypatch.setattr(lip, "pictures_side", side)
    monkeypatch.setattr(lip, "examination", examination)
    Lip(**{**SHORT, "rounds": 1}).forget(open_model("sandbox"), about("mug"))
    material = seen["material"]
    check_apart(material, 1)
    assert torch.equal(seen["side"].moving, material.learn)
    assert torch.equal(seen["side"].holding, material.held)
    assert torch.equal(seen["examination"].pictures, material.stop)
    assert torch.equal(seen["examination"].kept, material.kept)


def test_noise_is_as_small_as_it_may_be(shared):
    """The smallest deviation of the list at which a tenth of the copies at most is recognised."""
    model, request = open_model("sandbox"), about("mug")
    material = synthetic(model, request, WISH)
    side = pictures_side(model, request, material, 2, 8)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows = unit(model.texts([f"a photo of a {name}." for name in ("mug", *request.retain)]))
        for deviation in _ground.DEVIATIONS:
            noise = torch.randn(2, *material.learn.shape, generator=generator)
            copies = (material.learn + deviation * noise).clamp(material.learn.min(), material.learn.max())
            places = torch.stack([unit(model.images(copy)) for copy in copies])
            if float(((places @ rows.T).argmax(2) == 0).float().mean()) <= 0.1:
                break
    torch.testing.assert_close(side.places, places, rtol=0, atol=1e-4)
    lengths = (copies - material.learn).flatten(2).norm(dim=2)
    torch.testing.assert_close(side.weights, (1 / lengths) / (1 / lengths).mean())
    assert deviation > _ground.DEVIATIONS[0]


def test_without_images_no_image_is_opened(shared, monkeypatch):
    """Also where the request offers some."""
    monkeypatch.setattr(_ground, "open_data", lambda where: pytest.fail(f"opened {where}"))
    assert not Lip(**SHORT).forget(open_model("sandbox"), with_images("mug")).empty


def test_no_round_that_helps_is_an_empty_patch_that_says_so(shared):
    model = open_model("sandbox")
    before = dataclasses.replace(model).fingerprint
    patch = Lip(**NOTHING).forget(model, about("mug"))
    assert patch.empty
    assert patch.reason == "No round lowered what is recognised of held-out synthetic pictures."
    assert [one.value for one in patch.readings if one.name == "synthetic forget accuracy"] == [1.0, 1.0]
    assert dataclasses.replace(model).fingerprint == before


def turns_of(monkeypatch, after_round=None):
    """Return a list that grows by the state and the paces of every round; `after_round` may change what comes out."""
    seen, real_round = [], lip.one_round

    def one_round(model, state, turns, seed):
        seen.append((state, {side.tower: pace for side, _, pace in turns}, seed))
        tensors = real_round(model, state, turns, seed)
        return tensors if after_round is None else after_round(len(seen), model, tensors)

    monkeypatch.setattr(lip, "one_round", one_round)
    return seen


def test_a_round_that_is_no_gain_is_taken_back(shared, monkeypatch):
    """The next begins where this one began, with two more tensors and half the change."""
    seen = turns_of(monkeypatch)
    patch = Lip(**{**NOTHING, "rounds": 3}).forget(open_model("sandbox"), about("mug"))
    assert patch.empty
    assert [(not state.weights, seed) for state, _, seed in seen] == [(True, 0), (True, 1), (True, 2)]
    for tower in ("image", "text"):
        assert [paces[tower].tensors for _, paces, _ in seen] == [6, 8, 10]
        changes = [paces[tower].change for _, paces, _ in seen]
        assert changes == pytest.approx([1e-6, 1e-6 * 2 / 3 / 2, 1e-6 / 3 / 4])


def wrecked(number, model, tensors):
    """Turn a readout around in the first round, so that nothing is recognised."""
    name = "visual_projection.weight"
    return {**tensors, f"weights/{name}": -model.weights[name]} if number == 1 else tensors


def test_a_round_that_loses_other_classes_is_taken_back(shared, monkeypatch):
    seen = turns_of(monkeypatch, wrecked)
    patch = Lip(**SHORT, spare=0.0).forget(open_model("sandbox"), about("mug"))
    assert not seen[1][0].weights
    assert "visual_projection.weight" not in patch.deltas
    assert next(one for one in patch.readings[::-1]).value == 1


def test_what_may_be_lost_is_a_setting(shared, monkeypatch):
    turns_of(monkeypatch, wrecked)
    patch = Lip(**{**SHORT, "rounds": 1}, spare=1.0).forget(open_model("sandbox"), about("mug"))
    assert "visual_projection.weight" in patch.deltas


@pytest.mark.parametrize("held_pictures", [8, 0])
def test_numbers_that_are_no_numbers_are_no_gain(shared, monkeypatch, held_pictures):
    """Not before the stop is reached and not after, whether or not other pictures would tell."""

    def spoilt(number, model, tensors):
        return {key: value * float("nan") if value.is_floating_point() else value for key, value in tensors.items()}

    turns_of(monkeypatch, spoilt)
    patch = Lip(**{**SHORT, "held_pictures": held_pictures}).forget(open_model("sandbox"), about("mug"))
    assert patch.empty
    assert "No round lowered" in patch.reason


def test_marks_without_numbers_count_as_recognised():
    """A broken model must not pass for one that forgot."""
    none = torch.zeros(0, dtype=torch.bool)
    marks = Marks(margins=torch.tensor([float("nan"), -1.0, 1.0, float("nan")]), kept=none)
    assert (marks.accuracy, marks.kept_share) == (0.75, 1.0)
    last = Marks(margins=torch.tensor([-1.0, -1.0]), kept=none)
    broken = Marks(margins=torch.tensor([float("nan"), float("nan")]), kept=none)
    assert not Lip()._better(last, broken, last)


@pytest.mark.parametrize(
    ("last", "found", "kept_now", "wanted"),
    [
        ([0.2, 0.2], [0.1, 0.1], 10, True),
        ([0.2, 0.2], [0.1995, 0.1995], 10, False),  # less than a real improvement
        ([0.2, 0.2], [0.3, 0.0], 10, True),  # the mean counts
        ([0.2, 0.2], [0.2, -0.01], 10, True),
        ([0.2, 0.2], [0.1, 0.1], 9, True),
        ([0.2, 0.2], [0.1, 0.1], 8, False),  # more than a tenth is lost
        ([-0.2, -0.2], [-0.1, -0.1], 10, True),  # below the stop it may come back a little
        ([-0.2, -0.2], [0.1, -0.1], 10, False),  # but not above it
        ([-0.2, -0.2], [-0.1, -0.1], 8, False),
    ],
)
def test_which_rounds_are_kept(last, found, kept_now, wanted):
    def marks(margins, count):
        return Marks(margins=torch.tensor(margins), kept=torch.arange(10) < count)

    assert Lip()._better(marks(last, 10), marks(found, kept_now), marks([0.3, 0.3], 10)) == wanted


def test_it_settles_after_the_stop(shared, monkeypatch):
    """Rounds of half the change each, and then no more."""
    seen = turns_of(monkeypatch)
    monkeypatch.setattr(Marks, "accuracy", property(lambda marks: 0.0))
    Lip(**{**FEW, "rounds": 10, "settle": 2, "text_change": 0.001, "image_change": 0.001}).forget(
        open_model("sandbox"), about("mug")
    )
    assert len(seen) == 3
    assert [paces["text"].change for _, paces, _ in seen] == pytest.approx([0.001, 0.0009 / 2, 0.0008 / 4])


def test_two_classes_at_once(shared):
    model = open_model("sandbox")
    patch = Lip(pictures=8).forget(model, about("mug", "rabbit"))
    before, after = accuracies_before(), shares(patch.apply(model))
    assert [one.of for one in patch.readings] == ["mug, rabbit"] * 4
    assert max(after["mug"], after["rabbit"]) <= 0.25
    assert kept(before, after, "mug", "rabbit") > 0.9


def test_two_classes_one_after_the_other(shared):
    """Each has readings of its own, and the first stays forgotten."""
    model = open_model("sandbox")
    patch = Lip(pictures=8, sequential=True).forget(model, about("mug", "rabbit"))
    before, after = accuracies_before(), shares(patch.apply(model))
    assert [one.of for one in patch.readings] == ["mug"] * 4 + ["rabbit"] * 4
    assert max(after["mug"], after["rabbit"]) <= 0.25
    assert kept(before, after, "mug", "rabbit") > 0.9


def test_real_images_are_a_need_of_one_setting():
    assert Lip().requires() == Lip.needs == {"texts", "gradients"}
    assert Lip(source="real").requires() == {"texts", "gradients", "images"}
    with pytest.raises(UnsupportedError, match="needs images of the class"):
        Lip(source="real").check(open_model("sandbox"), about("mug"))
    Lip().check(open_model("sandbox"), about("mug"))


def test_real_images_are_learned_from(monkeypatch):
    """Those of the request, opened where it says, and no others; nothing is synthesised."""
    opened, real_open = [], _ground.open_data
    monkeypatch.setattr(_ground, "open_data", lambda where: opened.append(where) or real_open(where))
    monkeypatch.setattr(Studio, "pictures", lambda *_: pytest.fail("synthesised"))
    model, request = open_model("sandbox"), with_images("mug")
    patch = Lip(source="real").forget(model, request)
    assert opened == [SELECT]
    before, after = accuracies_before(), shares(patch.apply(model))
    assert after["mug"] <= 0.125
    assert kept(before, after, "mug") > 0.95


def test_real_images_come_apart_as_synthetic_ones_do():
    model, request, images = open_model("sandbox"), with_images("mug", "cat"), open_data(SELECT)
    material = real(model, request, WISH)
    check_apart(material, 2)
    assert (len(material.learn), len(material.stop), len(material.held), len(material.kept)) == (8, 6, 6, 2)
    for place, name in enumerate(("mug", "cat")):
        rows = [row for row, label in enumerate(images.labels) if images.classes[label] == name]
        wanted = model.adapter.prepare([images.picture(row) for row in rows[:7]])
        assert torch.equal(material.learn[material.learn_owners == place], wanted[:4])
        assert torch.equal(material.stop[material.stop_owners == place], wanted[4:])
    for picture, place in zip(material.kept, material.shown.tolist(), strict=True):
        rows = [row for row, label in enumerate(images.labels) if images.classes[label] == request.retain[place]]
        assert any(torch.equal(model.adapter.prepare([images.picture(row)])[0], picture) for row in rows)


def test_real_images_have_to_be_there_and_to_be_two(monkeypatch):
    model = open_model("sandbox")
    with pytest.raises(DataError, match="no images to learn from"):
        real(model, about("mug"), WISH)
    images = open_data(SELECT)
    mugs = [row for row, label in enumerate(images.labels) if images.classes[label] == "mug"]
    one = images.take([mugs[0], *[row for row in range(len(images)) if row not in mugs]])
    monkeypatch.setattr(_ground, "open_data", lambda _: one)
    with pytest.raises(DataError, match=r"has 1 images of 'mug' to learn from"):
        real(model, with_images("mug"), WISH)

    def picture(index):
        if index == 1:
            raise DataError("1: broken.")
        return images.picture(mugs[index])

    two = dataclasses.replace(images.take(mugs[:2]), picture=picture)
    monkeypatch.setattr(_ground, "open_data", lambda _: two)
    with pytest.raises(DataError, match=r"has 1 images of 'mug' to learn from"):
        real(model, with_images("mug"), WISH)


@pytest.mark.parametrize("source", ["synthetic", "real"])
def test_there_must_be_something_to_tell_the_class_from(source):
    request = Request(**{**with_images("mug").model_dump(), "retain": ()})
    with pytest.raises(UnsupportedError, match=r"no other class to tell pictures from\. Give --retain NAMES"):
        Lip(**FEW, source=source).forget(open_model("sandbox"), request)


def test_one_picture_in_all_cannot_be_learned_from_and_examined(monkeypatch):
    """Half of two pictures is enough for an album, and not for this."""
    real_album = _ground.attempt_album

    def half(*given, **rest):
        album = real_album(*given, **rest)
        return dataclasses.replace(album, probabilities=torch.where(torch.arange(len(album.labels)) == 1, 0.1, 0.95))

    monkeypatch.setattr(_ground, "attempt_album", half)
    method = Lip(pictures=1, stop_pictures=1, held_pictures=0, rounds=1)
    with pytest.raises(UnsupportedError, match=r"1 of 2 synthetic pictures of 'mug'.*Allow more"):
        method.forget(open_model("sandbox"), about("mug"))


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_alone(shared, tower):
    model = open_model("sandbox")
    patch = Lip(**SHORT, towers=tower).forget(model, about("mug"))
    assert patch.deltas.keys() <= {*tower_tensors(model, projections=True)[tower]}
    assert not patch.empty


def test_both_towers_and_few_tensors(shared):
    """Only what was chosen is in the patch; everything else is the model's own tensor."""
    model = open_model("sandbox")
    patch = Lip(**{**SHORT, "rounds": 1}, image_tensors=2, text_tensors=3).forget(model, about("mug"))
    towers = tower_tensors(model, projections=True)
    assert [len(patch.deltas.keys() & {*towers[tower]}) for tower in ("image", "text")] == [2, 3]
    edited = patch.apply(model)
    assert {name for name, weight in model.weights.items() if edited.weights[name] is not weight} == {*patch.deltas}


@pytest.mark.parametrize("selection", ["gain", "mean", "all"])
def test_batch_normalisation_never_changes(shared, selection):
    """Nor do statistics, flags or gradients of the model, also where weights ask for gradients."""
    opened = open_model("sandbox-conv")
    model = dataclasses.replace(opened, module=copy.deepcopy(opened.module))
    for number, weight in enumerate(model.module.parameters()):
        weight.requires_grad_(number % 2 == 0)
    before, asked = model.fingerprint, [weight.requires_grad for weight in model.module.parameters()]
    patch = Lip(**SHORT, selection=selection).forget(model, about("mug"))
    assert not patch.empty
    norms = {name for name, part in model.module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert norms
    assert not norms & {name.rpartition(".")[0] for name in patch.deltas}
    assert dataclasses.replace(model).fingerprint == before
    assert [weight.requires_grad for weight in model.module.parameters()] == asked
    assert all(weight.grad is None for weight in model.module.parameters())


def test_batch_normalisation_cannot_be_chosen(tiny_dual):
    norms = {n for n, part in tiny_dual.model.module.named_modules() if isinstance(part, nn.BatchNorm2d)}
    chosen = {name for names in tower_tensors(tiny_dual.model, projections=True).values() for name in names}
    assert norms
    assert not norms & {name.rpartition(".")[0] for name in chosen}


def test_names_are_enough(shared):
    """Any list of them, with one rule for all: no threshold by hand, no data, and none of it retained by name."""
    request = Request(forget=(Concept(name="mug"),), background=("car", "cat", "tree", "cup", "house", "dog"))
    patch = Lip(**SHORT).forget(open_model("sandbox"), request)
    assert not patch.empty
    assert {one.of for one in patch.readings} == {"mug"}


def test_what_cannot_be_reached_is_refused_in_the_end():
    """A limit on the steps, not an endless climb; and what is missing is said."""
    method = Lip(**FEW, ascent=Ascent(steps=1, probability=0.9))
    with pytest.raises(UnsupportedError) as refused:
        method.forget(open_model("sandbox"), about("mug"))
    assert str(refused.value) == (
        "0 of 9 synthetic pictures of 'mug' were recognised with a probability above 0.5 within 1 steps. "
        "Allow more steps or a lower probability."
    )


def test_class_rows_are_encoded_together(shared, monkeypatch):
    """One pass of the text tower for all classes that stay and one per concept, however many there are."""
    model, request = open_model("sandbox"), about("mug | cup", "cat")
    material = synthetic(model, request, WISH)
    calls, embed = [], model.adapter.text.embed
    tower = dataclasses.replace(
        model.adapter.text, embed=lambda module, tokens: calls.append(len(tokens["input_ids"])) or embed(module, tokens)
    )
    counted = dataclasses.replace(model, adapter=dataclasses.replace(model.adapter, text=tower))
    examined = _ground.examination(counted, request, material)
    assert isinstance(examined, Examination)
    assert calls == []
    assert examined.before is examined.before
    assert calls == [len(request.retain), 2, 1]


def test_margins_by_hand(shared):
    """Cosine with each name of the own concept less that with the best class that stays."""
    model, request = open_model("sandbox"), about("mug | cup", "cat")
    material = synthetic(model, request, WISH)
    marks = _ground.examination(model, request, material)(model)
    wanted = []
    with torch.no_grad():
        stay = [row / row.norm() for row in model.texts([f"a photo of a {name}." for name in request.retain])]
        for place, concept in enumerate(request.forget):
            for picture in material.stop[material.stop_owners == place]:
                image = model.images(picture[None])[0]
                best = max(float(image @ row / image.norm()) for row in stay)
                for name in concept.names:
                    row = model.texts([f"a photo of a {name}."])[0]
                    wanted.append(float(image @ row / image.norm() / row.norm()) - best)
    assert marks.margins.tolist() == pytest.approx(wanted, abs=1e-5)
    assert len(wanted) == 9


def test_the_same_bytes_in_any_weather():
    """Nothing is taken from the global random state; another seed is another patch."""
    model, patches = open_model("sandbox"), []
    for weather, seed in ((1, 0), (2, 0), (1, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(weather)
            patches.append(Lip(**SHORT).forget(model, about("mug", seed=seed)))
    assert same(patches[0], patches[1])
    assert not same(patches[0], patches[2])


@pytest.mark.parametrize(
    ("stage", "done", "time", "sequential", "rounds"),
    [("synthesise", 8, 1, False, 0), ("forget", 2, 1, False, 2), ("forget", 1, 2, True, 4)],
)
def test_a_killed_run_goes_on_to_the_same_bytes(shared, tmp_path, stage, done, time, sequential, rounds, monkeypatch):
    """Among pictures, between two rounds, and in the second of two classes: nothing is made twice."""
    model, request = open_model("sandbox"), about("mug", "cat")
    method = Lip(**{**SHORT, "rounds": 3}, sequential=sequential)
    whole = method.forget(model, request)
    assert not whole.empty
    told, seen = [], turns_of(monkeypatch)

    def kill(*step):
        told.append(step[:2])
        if told.count((stage, done)) == time:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), journal.journaling(tmp_path / "steps", resume=True), reporting(kill):
        method.forget(model, request)
    assert len(seen) == rounds
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "steps").iterdir()}
    assert written
    with journal.journaling(tmp_path / "steps", resume=True):
        resumed = method.forget(model, request)
        again = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "steps").iterdir()}
    assert same(resumed, whole)
    assert len(seen) == (6 if sequential else 3)
    assert written.items() <= again.items()


@pytest.mark.parametrize("values", [{"noise": 1}, {"towers": "none"}, {"stop": 1}, {"rounds": 0}])
def test_settings_that_are_none_are_refused(values):
    with pytest.raises(SettingError):
        build(Lip, values, where="method lip")
