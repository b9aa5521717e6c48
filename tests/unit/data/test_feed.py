"""From pairs to numbered steps: what is in a batch, in which order, with which sentences."""

from collections import Counter

import pytest
import torch
from pair_toys import Shelf, labels, stocked

from clip_unlearn.data import feed as module
from clip_unlearn.data.feed import PairFeed, TextTable

NAMES = ("bird", "car", "dog", "mug", "teapot")


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return stocked(monkeypatch)


@pytest.fixture
def pairs(tiny_clip, shelf):
    """Return nine images of a class to forget to learn from, and fifteen of five to retain."""
    shelf.put(labels=labels(cat=12, **dict.fromkeys(NAMES, 4)))
    return shelf.pairs(tiny_clip.model, "cat | kitty | tom", templates=("a photo of a {}", "one {}", "the {}"))


def feed(pairs, forget=4, retain=5):
    return PairFeed(pairs=pairs, forget_batch=forget, retain_batch=retain)


def seen(inputs):
    sides = [(side.rows, side.sentences, side.labels.tolist()) for side in (inputs.forget, inputs.retain)]
    return sides, inputs.names, inputs.forgotten, torch.rand(4, generator=inputs.generator).tolist()


def test_the_same_number_gives_the_same_inputs(pairs):
    """Whatever was asked for before; also from another feed."""
    one, other = feed(pairs), feed(pairs)
    forth = [seen(one(number)) for number in range(12)]
    back = [seen(other(number)) for number in reversed(range(12))][::-1]
    assert forth == back
    assert all(first != second for place, first in enumerate(forth) for second in forth[:place])
    assert len({tuple(each[3]) for each in forth}) == 12, "random numbers of their own"


def test_a_step_draws_the_same_random_numbers_again(pairs):
    first, second = feed(pairs)(3), feed(pairs)(3)
    assert torch.equal(torch.rand(3, generator=first.generator), torch.rand(3, generator=second.generator))
    assert first.generator is first.generator, "and different ones within the step"


def test_seeds_differ(tiny_clip, shelf):
    shelf.put(labels=labels(cat=12, dog=12))
    first, again, other = (feed(shelf.pairs(tiny_clip.model, "cat", seed=seed)) for seed in (0, 0, 1))
    assert seen(first(2)) == seen(again(2))
    for number in range(3):
        assert first(number).forget.rows != other(number).forget.rows
        assert first(number).retain.rows != other(number).retain.rows


@pytest.mark.parametrize("size", [1, 4, 5, 7, 9])
def test_every_pass_has_every_row_once(pairs, size):
    one = feed(pairs, forget=size, retain=size)
    for side, count in (("forget", 9), ("retain", 15)):
        rows = [row for number in range(3 * count) for row in getattr(one(number), side).rows]
        passes = [rows[start : start + count] for start in range(0, 3 * count, count)]
        assert all(sorted(each) == sorted(getattr(pairs, side)) for each in passes)
        assert len({tuple(each) for each in passes}) == 3, "in a new order each"


def test_the_sides_are_shuffled_apart(tiny_clip, shelf):
    """Two sides of the same length do not run in step."""
    shelf.put(labels=labels(cat=12, dog=12))
    one = feed(shelf.pairs(tiny_clip.model, "cat"), 9, 9)
    pairs = one.pairs
    places = [
        (
            [pairs.forget.index(row) for row in one(number).forget.rows],
            [pairs.retain.index(row) for row in one(number).retain.rows],
        )
        for number in range(3)
    ]
    assert all(first != second for first, second in places)


def test_never_more_of_a_side_than_there_are(pairs):
    inputs = feed(pairs, forget=100, retain=100)(1)
    assert sorted(inputs.forget.rows) == sorted(pairs.forget)
    assert sorted(inputs.retain.rows) == sorted(pairs.retain)


def test_a_pass_goes_round_the_classes(pairs):
    one = feed(pairs, retain=5)
    for number in range(9):
        assert sorted(one(number).retain.labels.tolist()) == [1, 2, 3, 4, 5]
    orders = {tuple(one(number).retain.labels.tolist()) for number in range(9)}
    assert len(orders) > 4, "each time in another order"


def test_where_classes_differ_in_size_the_rest_comes_last(tiny_clip, shelf):
    shelf.put(labels=labels(cat=2, dog=16, mug=4))
    one = feed(shelf.pairs(tiny_clip.model, "cat"), retain=15)
    found = one(0).retain.labels.tolist()
    assert all(Counter(found[start : start + 2]) == {1: 1, 2: 1} for start in (0, 2, 4))
    assert found[6:] == [1] * 9


def test_sentences_have_one_template_and_any_name(pairs):
    """One template for the whole step, class list included; synonyms among the sentences alone."""
    one, templates, words = feed(pairs, forget=9), Counter(), Counter()
    for number in range(40):
        inputs = one(number)
        (template,) = (each for each in pairs.request.templates if each.replace("{}", "cat") == inputs.names[0])
        templates[template] += 1
        assert inputs.names == tuple(template.replace("{}", name) for name in ("cat", *NAMES))
        names = [sentence.removeprefix(template.removesuffix("{}")) for sentence in inputs.forget.sentences]
        words.update(names)
        kept = [inputs.names[label] for label in inputs.retain.labels.tolist()]
        assert list(inputs.retain.sentences) == kept
    assert templates.keys() == set(pairs.request.templates)
    assert words.keys() == {"cat", "kitty", "tom"}
    assert all(count > 5 for count in templates.values())
    assert all(80 < count < 160 for count in words.values()), "each about as often"


def test_captions_are_the_images_own(tiny_clip, shelf):
    said = [("a cat", "one red cat"), ("the cat",)] * 4 + [("a dog", "one dog", "the dog"), ("a bird",)] * 4
    shelf.put(captions=said)
    one, found = feed(shelf.pairs(tiny_clip.model, "cat"), 6, 6), Counter()
    for number in range(30):
        for side in (one(number).forget, one(number).retain):
            assert side.labels.tolist() == [-1] * len(side.rows)
            for row, sentence in zip(side.rows, side.sentences, strict=True):
                assert sentence in said[row]
                found[sentence] += 1
    assert found.keys() == {sentence for each in said for sentence in each}
    assert one(0).names == ("a photo of a cat.",)


def test_what_a_side_holds(tiny_clip, pairs):
    side = feed(pairs)(1).retain
    images = pairs.images
    with torch.no_grad():
        pixels = tiny_clip.model.adapter.prepare([images.picture(row) for row in side.rows])
        image, text = tiny_clip.model.images(pixels), tiny_clip.model.texts(side.sentences)
    assert torch.equal(side.pixels, pixels)
    assert side.labels.tolist() == [int(pairs.labels[row]) for row in side.rows]
    assert torch.allclose(side.before_images, image / image.norm(dim=1, keepdim=True), atol=1e-5)
    assert torch.allclose(side.before_texts, text / text.norm(dim=1, keepdim=True), atol=1e-5)
    inputs = feed(pairs)(1)
    with torch.no_grad():
        names = tiny_clip.model.texts(inputs.names)
    assert torch.allclose(inputs.before_names, names / names.norm(dim=1, keepdim=True), atol=1e-5)
    assert inputs.forgotten == 1


class Noting:
    """A model that notes what it is asked to embed."""

    def __init__(self, model):
        self.model, self.asked = model, []

    def texts(self, sentences):
        self.asked.append(list(sentences))
        return self.model.texts(sentences)


def test_sentences_of_a_list_are_embedded_once_in_runs_of_it(tiny_clip, monkeypatch):
    """In the order asked for, without a graph; only the runs that are asked for."""
    monkeypatch.setattr(module, "RUN", 2)
    model = Noting(tiny_clip.model)
    table, names = TextTable(model=model), ("a cat", "a dog", "a bird", "a mug", "a car")
    first = table(["a mug", "a cat", "a mug"], names)
    second = table(["a dog", "a bird"], names)
    assert model.asked == [["a bird", "a mug"], ["a cat", "a dog"]]
    assert torch.equal(first[0], first[2])
    with torch.no_grad():
        wanted = tiny_clip.model.texts(["a mug", "a cat", "a dog", "a bird"])
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    assert torch.allclose(torch.cat([first[:2], second]), wanted, atol=1e-5)
    assert not first.requires_grad
    assert torch.equal(table(names, names), torch.stack([*first[1:2], *second, first[0], table(names, names)[4]]))
    assert model.asked[2:] == [["a car"]]


def test_what_came_before_does_not_count(tiny_clip):
    """A sentence is embedded with the same others in a run that starts late; what is in no list comes together."""
    names = tuple(f"a {name}" for name in ("cat", "dog", "big old bird", "mug"))
    early, late = Noting(tiny_clip.model), Noting(tiny_clip.model)
    one, two = TextTable(model=early), TextTable(model=late)
    one(["a red cat", "a cat"], names)
    one(["a red cat"], names)
    asked = ["a red cat", "the small dog", "a mug", "a red cat"]
    assert torch.equal(one(asked, names), two(asked, names))
    assert early.asked[-1] == late.asked[0] == ["a red cat", "the small dog"]
