"""What `lip` smooths, holds and examines: synthetic pictures, real ones and sentences."""

import dataclasses

import pytest
import torch
from lip_requests import FEW, SELECT, SHORT, about, with_images

from clip_unlearn.core.request import Request
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _ground, lip
from clip_unlearn.methods._examination import Examination
from clip_unlearn.methods._ground import Material, Wish, names_side, pictures_side, real, synthetic
from clip_unlearn.methods.lip import Lip
from clip_unlearn.models.open import open_model

WISH = Wish(learn=4, stop=3, held=8, ascent=Lip().ascent)


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
