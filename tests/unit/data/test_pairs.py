"""Images of a request's evidence: sorted, parted, looked at, and refused where they do not suffice."""

import dataclasses
from collections import Counter

import pytest
import torch
from pair_toys import Shelf, labels, stocked

from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data import pairs as module
from clip_unlearn.data.mentions import mentions
from clip_unlearn.data.open import open_data
from clip_unlearn.data.pairs import pairs_of
from clip_unlearn.errors import DataError, UnsupportedError


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return stocked(monkeypatch)


def named(pairs, rows):
    return Counter(pairs.images.classes[pairs.images.labels[row]] for row in rows)


# Sorted


def test_by_class(tiny_clip, shelf):
    """Case and underscores folded; those to forget first, each with all its names."""
    shelf.put(labels=labels(cat=4, dog=4, mug=4, fire_truck=8))
    pairs = shelf.pairs(tiny_clip.model, "Fire Truck | engine", "cat")
    assert pairs.names == (("Fire Truck", "engine"), ("cat",), ("dog",), ("mug",))
    assert pairs.forgotten == 2
    assert not pairs.captioned
    assert named(pairs, pairs.forget) == {"fire_truck": 6, "cat": 3}
    assert named(pairs, pairs.held_forget) == {"fire_truck": 2, "cat": 1}
    assert named(pairs, pairs.retain) == {"dog": 3, "mug": 3}
    assert named(pairs, pairs.held_retain) == {"dog": 1, "mug": 1}
    assert pairs.labels.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [0] * 8


def test_classes_nobody_asked_about_are_left_out(tiny_clip, shelf):
    """Also those that are another name of what is to be forgotten."""
    shelf.put(labels=labels(cat=4, dog=4, mug=4, cup=4))
    pairs = shelf.pairs(tiny_clip.model, "cat", retain=("dog", "bird"))
    assert pairs.names == (("cat",), ("dog",), ("bird",))
    assert named(pairs, (*pairs.retain, *pairs.held_retain)) == {"dog": 4}
    assert pairs.labels.tolist() == [0] * 4 + [1] * 4 + [-1] * 8
    pairs = shelf.pairs(tiny_clip.model, "mug | cup")
    assert pairs.names == (("mug", "cup"), ("cat",), ("dog",))
    assert named(pairs, (*pairs.retain, *pairs.held_retain)) == {"cat": 4, "dog": 4}


CAPTIONS = (
    ("a red cat",), ("A drawing", "two Cats"), ("the catalogue",), ("a bird on a big cat tree",), ("a dog",),
    ("bobcat.",), ("one tabby cat",), ("a small mug", "one dog"), ("cat",), ("a lynx",),
)  # fmt: skip


def test_by_what_captions_name(tiny_clip, shelf):
    shelf.put(captions=CAPTIONS)
    pairs = shelf.pairs(tiny_clip.model, "cat | lynx")
    assert pairs.captioned
    assert sorted((*pairs.forget, *pairs.held_forget)) == [0, 1, 3, 6, 8, 9]
    assert sorted((*pairs.retain, *pairs.held_retain)) == [2, 4, 5, 7]
    assert pairs.labels.tolist() == [-1] * 10
    pairs = shelf.pairs(tiny_clip.model, "cat | lynx", other_senses=("cat tree",))
    assert sorted((*pairs.forget, *pairs.held_forget)) == [0, 1, 6, 8, 9]
    assert 3 in (*pairs.retain, *pairs.held_retain)


def test_classes_count_more_than_captions(tiny_clip, shelf):
    """A class says what an image is; asked for, captions say it in other words."""
    shelf.put(labels=labels(cat=4, dog=4), captions=[("a dog",)] * 4 + [("a cat",)] * 4)
    for sentences, captioned in (("auto", False), ("classes", False), ("captions", True)):
        pairs = shelf.pairs(tiny_clip.model, "cat", sentences=sentences)
        assert sorted((*pairs.forget, *pairs.held_forget)) == [0, 1, 2, 3]
        assert pairs.captioned is captioned


def test_images_without_captions_are_left_out_where_captions_are_asked_for(tiny_clip, shelf):
    shelf.put(captions=[("a cat",), ("one cat",), (), ("a dog",), (), ("a dog",)])
    pairs = shelf.pairs(tiny_clip.model, "cat")
    assert sorted((*pairs.forget, *pairs.held_forget)) == [0, 1]
    assert sorted((*pairs.retain, *pairs.held_retain)) == [3, 5]
    shelf.put(labels=labels(cat=3, dog=3), captions=[("a cat",), ("one cat",), (), ("a dog",), (), ("a dog",)])
    pairs = shelf.pairs(tiny_clip.model, "cat", sentences="captions")
    assert sorted((*pairs.forget, *pairs.held_forget)) == [0, 1]
    pairs = shelf.pairs(tiny_clip.model, "cat")
    assert sorted((*pairs.forget, *pairs.held_forget)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("a mug", True), ("Mugs!", True), ("the  MUG's handle", True), ("a coffee-mug", True), ("smug", False),
        ("mugger", False), ("a mug_shot", True), ("mug2", False), ("two glasses", True), ("one glass", True),
        ("glassy", False), ("a fire truck", True), ("fire_trucks", True), ("fire  truck", True), ("a fire", False),
        ("C++ code", True), ("c", False), ("a cup", False), ("", False),
    ],
)  # fmt: skip
def test_names_are_found_as_whole_words_and_plain_plurals(sentence, found):
    assert mentions(["mug", "Glass", "fire_truck", "c++"])(sentence) is found


# Parted


@pytest.mark.parametrize("count", range(2, 14))
def test_one_of_every_four_is_only_looked_at(tiny_clip, shelf, count):
    """And at least one of two; which ones follows from their content, not from their order."""
    images = shelf.put(labels=labels(cat=count, dog=5))
    pairs = shelf.pairs(tiny_clip.model, "cat")
    ordered = sorted(range(count), key=lambda row: images.contents[row])
    wanted = [row for place, row in enumerate(ordered) if place % 4 == min(4, count) - 1]
    assert list(pairs.held_forget) == sorted(wanted)
    assert len(pairs.held_forget) == max(1, count // 4)
    assert list(pairs.forget) == [row for row in range(count) if row not in wanted]
    shelf.put(labels=labels(cat=count, dog=5), seeds=[*reversed(range(count)), *range(count, count + 5)])
    turned = shelf.pairs(tiny_clip.model, "cat")
    assert sorted(count - 1 - row for row in turned.held_forget) == sorted(wanted)


@pytest.mark.parametrize("seeds", [[1, 2, 2], [1, 1, 2], [5, 6, 6, 6, 6], [1, 2, 3, 4, 1, 2, 3, 4], [8, 9, 8]])
def test_equal_images_stay_together(tiny_clip, shelf, seeds):
    """However many copies there are, one of two different images is looked at."""
    shelf.put(labels=labels(cat=len(seeds), dog=2), seeds=[*seeds, 100, 101])
    pairs = shelf.pairs(tiny_clip.model, "cat")
    learned, held = ({seeds[row] for row in rows} for rows in (pairs.forget, pairs.held_forget))
    assert learned
    assert len(held) == 1
    assert not learned & held
    assert len(pairs.forget) + len(pairs.held_forget) == len(seeds)


def test_equal_images_of_two_classes_stay_together(tiny_clip, shelf):
    drawn = [*range(100, 108), *range(8), *range(8)]
    shelf.put(labels=labels(cat=8, dog=8, mug=8), seeds=drawn)
    pairs = shelf.pairs(tiny_clip.model, "cat")
    learned, held = ({drawn[row] for row in rows} for rows in (pairs.retain, pairs.held_retain))
    assert not learned & held


def test_a_single_image_to_retain_is_learned_from(tiny_clip, shelf):
    shelf.put(labels=labels(cat=2, dog=1))
    pairs = shelf.pairs(tiny_clip.model, "cat")
    assert (pairs.retain, pairs.held_retain) == ((2,), ())


def test_no_more_than_some_are_looked_at(tiny_clip, shelf, monkeypatch):
    monkeypatch.setattr(module, "LOOKED_AT", 5)
    shelf.put(labels=labels(cat=4, dog=16, mug=16))
    first, again, other = (shelf.pairs(tiny_clip.model, "cat", seed=seed) for seed in (1, 1, 2))
    assert len(first.held_retain) == 5
    assert first.held_retain == again.held_retain != other.held_retain
    assert first.held_retain == tuple(sorted(first.held_retain))
    assert first.retain == other.retain
    assert len(first.retain) == 24


def test_unreadable_images_are_left_out(tiny_clip, shelf):
    shelf.put(labels=labels(cat=5, dog=150), broken=(0,))
    pairs = shelf.pairs(tiny_clip.model, "cat")
    assert sorted((*pairs.forget, *pairs.held_forget)) == [1, 2, 3, 4]
    assert len(pairs.held_forget) == 1
    assert pairs.before[0].abs().sum() == 0
    assert torch.allclose(pairs.before[1:].norm(dim=1), torch.ones(154), atol=1e-6)


# Looked at


def test_prepared_pictures_come_in_the_order_asked_for(tiny_clip, shelf, monkeypatch):
    """Also twice, and where there is no room to hold them; those held are not prepared again."""
    images = shelf.put(labels=labels(cat=4, dog=4))
    wanted = {row: tiny_clip.model.adapter.prepare([images.picture(row)])[0] for row in range(8)}
    asked = []
    prepare = module.pixels_of
    monkeypatch.setattr(module, "pixels_of", lambda *given: (asked.extend(given[2]), prepare(*given))[1])
    for room, again in ((module.MEMORY, [5]), (2 * wanted[0].numel() * 4, [7, 5]), (0, [3, 7, 5])):
        monkeypatch.setattr(module, "MEMORY", room)
        pairs = shelf.pairs(tiny_clip.model, "cat")
        for rows in ((3, 1, 3, 7), (7, 5, 3)):
            asked.clear()
            assert torch.equal(pairs.pixels(rows), torch.stack([wanted[row] for row in rows]))
        assert sorted(asked) == sorted(again)


def test_marks_by_class(tiny_clip, shelf):
    images = shelf.put(labels=labels(cat=8, dog=12, mug=4))
    pairs = shelf.pairs(tiny_clip.model, "cat | kitty", templates=("a photo of a {}", "one {}"))
    mark = pairs.examine(tiny_clip.model)
    with torch.no_grad():
        rows = []
        for name in ("cat", "dog", "mug"):
            both = tiny_clip.model.texts([f"a photo of a {name}", f"one {name}"])
            rows.append((both / both.norm(dim=1, keepdim=True)).mean(0))
        hits, probabilities = {}, []
        for side in ("forget", "retain"):
            hits[side] = 0
            for row in getattr(pairs, f"held_{side}"):
                image = tiny_clip.model.images(tiny_clip.model.adapter.prepare([images.picture(row)]))[0]
                scores = torch.stack([torch.cosine_similarity(image, text, dim=0) for text in rows])
                hits[side] += int(scores.argmax() == images.labels[row])
                if side == "forget":
                    probabilities.append(float((tiny_clip.model.logit_scale * scores).softmax(0)[images.labels[row]]))
    assert (mark.forget_hits, mark.forget_count) == (hits["forget"], 2)
    assert (mark.retain_hits, mark.retain_count) == (hits["retain"], 4)
    assert mark.forget_probability == pytest.approx(sum(probabilities) / 2, abs=1e-5)
    blind = tiny_clip.model.replace(
        {name: weight.detach() * 0 for name, weight in tiny_clip.model.weights.items() if name != "logit_scale"}
    )
    assert (pairs.examine(blind).forget_hits, pairs.examine(blind).retain_hits) == (0, 0), "ties are no hits"


def test_marks_by_caption(tiny_clip, shelf, monkeypatch):
    """A caption counts as found among the nearest of those of all images that are looked at."""
    monkeypatch.setattr(module, "NEAR_THE_TOP", 2)
    monkeypatch.setattr(module, "WIDE", 2)
    said = [("a cat", "x"), ("one cat",), ("the red cat",), ("very old cat",)] * 2
    said += [("a dog",), ("a mug",), ("one bird",), ("a car",), ("a big dog",), ("a teapot",), ("two",), ("small",)]
    images = shelf.put(captions=said)
    pairs = shelf.pairs(tiny_clip.model, "cat")
    mark = pairs.examine(tiny_clip.model)
    rows = (*pairs.held_forget, *pairs.held_retain)
    with torch.no_grad():
        texts = tiny_clip.model.texts([said[row][0] for row in rows])
        found = []
        for place, row in enumerate(rows):
            image = tiny_clip.model.images(tiny_clip.model.adapter.prepare([images.picture(row)]))
            scores = torch.cosine_similarity(image, texts)
            found.append(int((scores >= scores[place]).sum()) <= 2)
    assert mark.forget_count == len(pairs.held_forget) == 2
    assert mark.forget_hits == sum(found[:2])
    assert (mark.retain_hits, mark.retain_count) == (sum(found[2:]), 2)


@pytest.mark.parametrize(("count", "near"), [(7, 1), (16, 2), (24, 3), (40, 5), (80, 5)])
def test_few_captions_are_a_hard_search(tiny_clip, shelf, monkeypatch, count, near):
    """Among five captions, one of the five nearest would be no find at all."""
    monkeypatch.setattr(module, "ranks", lambda scores, labels: torch.arange(len(scores)) + 1)
    shelf.put(captions=[(f"a cat {number}",) for number in range(4)] + [(f"dog {number}",) for number in range(4)])
    pairs = shelf.pairs(tiny_clip.model, "cat")
    rows = tuple(range(count))
    wide = dataclasses.replace(
        pairs,
        images=shelf.put(captions=[(f"cat {number}",) for number in range(count)]),
        held_forget=rows,
        held_retain=(),
    )
    assert wide.examine(tiny_clip.model).forget_hits == near


def test_equal_captions_are_one(tiny_clip, shelf):
    """They do not stand in each other's way."""
    said = [("a cat",)] * 8 + [("one dog",)] * 8
    images = shelf.put(captions=said)
    pairs = shelf.pairs(tiny_clip.model, "cat")
    texts = tiny_clip.model.texts(["a cat", "one dog"])
    hits = {"forget": 0, "retain": 0}
    for side in hits:
        for row in getattr(pairs, f"held_{side}"):
            image = tiny_clip.model.images(tiny_clip.model.adapter.prepare([images.picture(row)]))
            hits[side] += int(torch.cosine_similarity(image, texts).argmax() == (side == "retain"))
    mark = pairs.examine(tiny_clip.model)
    assert (mark.forget_hits, mark.retain_hits) == (hits["forget"], hits["retain"])
    assert sum(hits.values()) > 0


# Refused


def test_no_images_are_refused(tiny_clip):
    with pytest.raises(UnsupportedError, match=r"no images to learn from. Give them with --data or --evidence\."):
        pairs_of(tiny_clip.model, Request(forget=(Concept(name="cat"),)))


def test_images_that_changed_are_refused(tiny_clip, class_folder):
    images = open_data(str(class_folder))
    evidence = Evidence(where=images.where, digest=images.digest)
    request = Request(forget=(Concept(name="mug"),), evidence=evidence)
    assert pairs_of(tiny_clip.model, request).forgotten == 1
    (class_folder / "mug" / "0.png").unlink()
    with pytest.raises(DataError, match=r"no longer what the request was made with\. Give the images of then"):
        pairs_of(tiny_clip.model, request)


@pytest.mark.parametrize(
    ("given", "sentences", "told"),
    [
        ({"captions": CAPTIONS}, "classes", r"no class labels\. Give labelled images, or sentences=captions\."),
        ({"labels": labels(cat=3, dog=3)}, "captions", r"no captions\. Give images with captions, or sentences=cl"),
        ({"captions": [()] * 4}, "auto", r"neither labels nor captions to learn from\. Give images with either\."),
    ],
)
def test_images_that_say_nothing_are_refused(tiny_clip, shelf, given, sentences, told):
    shelf.put(**given)
    with pytest.raises(DataError, match=told):
        shelf.pairs(tiny_clip.model, "cat", sentences=sentences)


WAY_OUT = r"\. Give at least two different images of each concept, and some others\."


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"labels": labels(cat=1, mug=2, dog=4)}, "less than two different images of 'cat'"),
        ({"labels": labels(cat=2, mug=1, dog=4)}, "less than two different images of 'mug'"),
        ({"labels": labels(cat=9, dog=4)}, "less than two different images of 'mug'"),
        ({"labels": labels(dog=4)}, "less than two different images of 'cat'"),
        (
            {"labels": labels(cat=3, mug=2, dog=4), "seeds": [1, 1, 1, *range(2, 8)]},
            "less than two different images of 'cat'",
        ),
        ({"labels": labels(cat=2, mug=4), "seeds": [0, 1, 2, 3, 4, 5]}, "nothing that is to be retained"),
        ({"captions": [("a dog",)] * 5}, "less than two different images of 'cat'"),
        ({"captions": [("a cat",), ("a dog",)]}, "less than two different images of 'cat'"),
        ({"captions": [("a cat",)] * 5}, "nothing that is to be retained"),
    ],
)
def test_too_few_images_are_refused(tiny_clip, shelf, given, told):
    shelf.put(**given)
    with pytest.raises(DataError, match=f"^shelf shows {told}{WAY_OUT}"):
        shelf.pairs(tiny_clip.model, "cat", "mug")


def test_unlabelled_images_may_show_some_of_the_concepts_alone(tiny_clip, shelf):
    shelf.put(captions=[("a cat",), ("one cat",), ("a dog",)])
    assert shelf.pairs(tiny_clip.model, "cat", "mug").forgotten == 2
