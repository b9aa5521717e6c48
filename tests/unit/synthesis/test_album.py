"""Albums: pictures by name, the same whatever else is asked for, accepted by rule."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.journal import journaling
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.scores import cosines
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis import studio
from clip_unlearn.synthesis.album import (
    STANDARD,
    Album,
    acceptance_threshold,
    attempt_album,
    class_list,
    make_album,
)
from clip_unlearn.synthesis.ascend import Ascent

WORDS = ("bird", "car", "cat", "dog", "mug", "teapot")
SHORT = Ascent(steps=6, rate=0.05, blur_every=3, check_every=2, probability=0.3, starts=(1, 4), batch=4)
COLUMNS = [field.name for field in dataclasses.fields(Album) if field.name not in ("names", "threshold", "most_steps")]


def asking(*forget: str, words=WORDS, **rest) -> Request:
    """Return a request to forget some of the words and retain the others."""
    concepts = tuple(Concept.model_validate(text) for text in forget)
    named = [name for concept in concepts for name in concept.names]
    return Request(forget=concepts, retain=tuple(word for word in words if word not in named), **rest)


def short(model, request, names, **given) -> Album:
    return attempt_album(model, request, names, **{"count": 5, "settings": SHORT, "seed": 0, **given})


def by_hand(groups: dict[str, list[float]], accepted=None, threshold=0.5) -> Album:
    """Return an album with these probabilities and nothing to see."""
    probabilities = torch.tensor([value for values in groups.values() for value in values])
    labels = torch.tensor([index for index, values in enumerate(groups.values()) for _ in values])
    count = len(labels)
    return Album(
        names=tuple(groups),
        pixels=torch.zeros(count, 3, 2, 2),
        embeddings=torch.ones(count, 2),
        labels=labels,
        probabilities=probabilities,
        accepted=probabilities > threshold if accepted is None else torch.tensor(accepted),
        steps=torch.ones(count, dtype=torch.long),
        threshold=threshold,
        most_steps=7,
    )


def same(first: Album, second: Album) -> bool:
    """Return whether two albums agree in every byte."""
    return first.names == second.names and all(torch.equal(getattr(first, c), getattr(second, c)) for c in COLUMNS)


def test_a_name_has_the_same_pictures_in_every_request(tiny):
    """Forgotten or retained, alone or with others, whatever the order, as long as the classes are the same."""
    first = short(tiny.model, asking("cat", "dog"), ["cat", "mug"])
    second = short(tiny.model, asking("car"), ["mug", "bird", "cat"])
    third = short(tiny.model, asking("mug", words=WORDS[::-1]), ["cat"])
    torch.testing.assert_close(first.of("cat"), second.of("cat"), rtol=0, atol=1e-6)
    torch.testing.assert_close(first.of("mug"), second.of("mug"), rtol=0, atol=1e-6)
    torch.testing.assert_close(first.of("cat"), third.of("cat"), rtol=0, atol=1e-6)


def test_few_pictures_share_batches_with_other_names(tiny_clip, monkeypatch):
    """That changes the time, and pictures by rounding only."""
    sizes = watched(monkeypatch)
    monkeypatch.setattr(studio, "TOGETHER", 4)
    many = short(tiny_clip.model, asking("cat"), WORDS, count=1)
    alone = short(tiny_clip.model, asking("cat"), ["dog"], count=1)
    assert [len(own) for own in sizes] == [4, 2, 1]
    torch.testing.assert_close(many.of("dog"), alone.of("dog"), rtol=0, atol=1e-4)


def test_another_class_list_gives_other_pictures(tiny_clip):
    """Which shows that the list counts: the nearest other class is pushed away."""
    first = short(tiny_clip.model, asking("cat"), ["cat"])
    second = short(tiny_clip.model, asking("cat", words=WORDS[:3]), ["cat"])
    assert not torch.equal(first.pixels, second.pixels)


def test_the_seed_decides(tiny):
    first, second, third = (short(tiny.model, asking("cat"), ["cat", "dog"], seed=seed) for seed in (1, 1, 2))
    assert same(first, second)
    assert not torch.equal(first.pixels, third.pixels)


def test_names_and_numbers_start_from_noise_of_their_own(tiny_clip):
    """Also where the model takes two names for the same and nothing is ever changed."""
    still = SHORT.model_copy(update={"rate": 1e-9, "blur_every": 0})
    album = short(tiny_clip.model, asking("cat"), ["cat", "dog"], settings=still)
    flat = album.pixels.flatten(1)
    assert torch.pdist(flat).min() > 0.1


def test_more_pictures_begin_with_the_same_ones(tiny_clip):
    few, many = (short(tiny_clip.model, asking("cat"), ["cat"], count=count) for count in (4, 8))
    torch.testing.assert_close(many.pixels[:4], few.pixels, rtol=0, atol=1e-6)


def watched(monkeypatch) -> list[Tensor]:
    """Return a list that grows by the targets of every batch."""
    seen: list[Tensor] = []
    real = studio.ascend

    def watching(model, own, **rest):
        seen.append(own)
        return real(model, own, **rest)

    monkeypatch.setattr(studio, "ascend", watching)
    return seen


def test_prompts_and_wordings_take_turns(tiny, monkeypatch):
    seen = watched(monkeypatch)
    short(tiny.model, asking("cat | dog"), ["cat", "mug"], count=8)
    sentences = [
        *("a photo of a cat.", "a picture of a dog.", "cat", "a close-up of a dog."),
        *("a photo of a dog.", "a picture of a cat.", "dog", "a close-up of a cat."),
        *("a photo of a mug.", "a picture of a mug.", "mug", "a close-up of a mug."),
        *("a photo of a mug.", "a picture of a mug.", "mug", "a close-up of a mug."),
    ]
    with torch.no_grad():
        expected = tiny.model.texts(sentences)
    torch.testing.assert_close(torch.cat(seen), expected, rtol=0, atol=1e-5)
    assert len({tuple(row) for row in expected.round(decimals=4).tolist()}) == 12


@pytest.mark.parametrize(("others", "own"), [(4, 1), (4, 2), (4, 3), (4, 4), (4, 6), (1, 5)])
def test_each_turn_meets_each_other(others, own):
    pairs = [(index % others, studio._turn(index, others, own)) for index in range(others * own)]
    assert sorted(pairs) == [(first, second) for first in range(others) for second in range(own)]


def test_every_prompt_meets_every_grain(tiny_clip, monkeypatch):
    """16 pictures of 4 prompts and 4 grains are 16 different pairs."""
    grains: list[int] = []
    real = studio.noise

    def watching(count, side, starts, generator):
        grains.extend(starts)
        return real(count, side, starts, generator)

    monkeypatch.setattr(studio, "noise", watching)
    short(tiny_clip.model, asking("cat"), ["cat"], count=16, settings=SHORT.model_copy(update={"starts": (1, 2, 4, 8)}))
    assert len({(index % 4, grain) for index, grain in enumerate(grains)}) == 16


def test_accepted_pictures_are_recognised():
    """On the embedded model, by the formula, from the pixels alone."""
    model = open_model("sandbox")
    request = asking("mug", words=CLASS_NAMES, templates=("a photo of a {}.", "a {}."))
    album = make_album(model, request, ["mug", "rabbit"], count=6, settings=STANDARD, seed=3)
    names = class_list(request)
    with torch.no_grad():
        rows = torch.stack(
            [
                torch.stack([row / row.norm() for row in model.texts([f"a photo of a {name}.", f"a {name}."])]).mean(0)
                for name in names
            ]
        )
        embeddings = model.images(model.adapter.pixels.normalise(album.pixels))
    shares = (model.logit_scale * cosines(embeddings, rows)).softmax(1)
    wanted = torch.tensor([names.index(album.names[label]) for label in album.labels.tolist()])
    own = shares.gather(1, wanted.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(album.embeddings, embeddings, rtol=0, atol=1e-4)
    torch.testing.assert_close(album.probabilities, own, rtol=0, atol=1e-4)
    assert torch.equal(album.accepted, (shares.argmax(1) == wanted) & (own > 0.9))
    assert album.accepted.float().mean() > 0.8
    assert album.threshold == 0.9
    assert album.steps.max() <= STANDARD.steps
    assert not album.pixels.requires_grad


def test_a_threshold_takes_the_place_of_the_probability(tiny_clip):
    given = short(tiny_clip.model, asking("cat"), ["cat"], threshold=0.17)
    meant = short(tiny_clip.model, asking("cat"), ["cat"], settings=SHORT.model_copy(update={"probability": 0.17}))
    assert given.threshold == 0.17
    assert same(given, meant)


def test_the_class_list():
    assert class_list(asking("dog | mug", "cat", words=("teapot", "bird"))) == ("bird", "cat", "dog", "teapot")
    nouns = Request(forget=("cat",), background=("van", "ant"))
    assert class_list(nouns) == ("ant", "cat", "van")
    assert class_list(Request(forget=("cat",), retain=("dog",), background=("van",))) == ("cat", "dog")


def test_the_threshold_is_that_of_the_easiest_name():
    """Medians of accepted pictures: .7, .9, .8; of .85, .9, .95 the 10 % quantile is .85 + .2 x .05 = .86."""
    album = by_hand({"a": [0.99, 0.6, 0.7, 0.1], "b": [0.95, 0.2, 0.85, 0.9], "c": [0.8, 0.8, 0.8, 0.8]})
    assert acceptance_threshold(album) == pytest.approx(0.86)


def test_the_threshold_leaves_room():
    assert acceptance_threshold(by_hand({"a": [0.999, 0.998, 1.0]})) == 0.99


def test_a_threshold_of_nothing_is_refused():
    album = by_hand({"a": [0.1, 0.2], "b": [0.3]})
    with pytest.raises(UnsupportedError, match=r"None of 3 .* above 0.5 within 7 steps\. Allow more steps"):
        acceptance_threshold(album)


def test_fewer_than_half_is_a_failure():
    half = by_hand({"a": [0.9, 0.1], "b": [0.9, 0.9, 0.1]})
    assert half.checked() is half
    with pytest.raises(UnsupportedError) as refused:
        by_hand({"a": [0.9, 0.1], "polar bear": [0.9, 0.2, 0.1, 0.3, 0.3]}).checked()
    assert str(refused.value) == (
        "1 of 5 synthetic pictures of 'polar bear' were recognised with a probability above 0.5 within 7 steps. "
        "Allow more steps or a lower probability."
    )


def test_make_album_fails_where_attempt_album_does_not(tiny_clip):
    hard = {"count": 5, "settings": SHORT, "seed": 0, "threshold": 0.999}
    album = attempt_album(tiny_clip.model, asking("cat"), ["cat"], **hard)
    assert not album.accepted.any()
    with pytest.raises(UnsupportedError, match=r"0 of 5 synthetic pictures of 'cat' .* above 0.999 within 6 steps"):
        make_album(tiny_clip.model, asking("cat"), ["cat"], **hard)


def test_only_the_accepted_ones():
    album = by_hand({"a": [0.9, 0.1], "b": [0.2]})
    kept = album.accepted_only()
    assert kept.names == ("a", "b")
    assert kept.probabilities.tolist() == album.probabilities[:1].tolist()
    assert {len(getattr(kept, column)) for column in COLUMNS} == {1}
    assert len(kept.of("a")) == 1
    assert len(kept.of("b")) == 0
    assert len(album.accepted) == 3
    with pytest.raises(ValueError, match="no 'c'"):
        kept.of("c")


def test_recognised_accepts_by_another_probability():
    """Also pictures that stopped short of what they climbed for; nothing else changes."""
    album = by_hand({"a": [0.95, 0.6, 0.5, 0.2], "b": [0.7]}, threshold=0.9)
    assert album.accepted.tolist() == [True, False, False, False, False]
    known = album.recognised(0.5)
    assert known.accepted.tolist() == [True, True, False, False, True]
    assert known.threshold == 0.5
    assert known.probabilities is album.probabilities
    assert known.pixels is album.pixels
    assert known.checked() is known
    assert (album.threshold, int(album.accepted.sum())) == (0.9, 1)
    assert album.recognised(0.65).accepted.tolist() == [True, False, False, False, True]
    with pytest.raises(ValueError, match=r"0\.49 does not make a picture's own name come first"):
        album.recognised(0.49)


def test_diversity_is_the_mean_cosine_of_two_different_pictures():
    album = dataclasses.replace(
        by_hand({"a": [1, 1, 1], "b": [1, 1], "c": [1]}),
        embeddings=torch.tensor([[2.0, 0], [0, 1], [3, 3], [1, 1], [5, 5], [1, 0]]),
    )
    first, second, third = album.diversity()
    assert first == pytest.approx((0 + 2 * 0.5**0.5) / 3)
    assert second == pytest.approx(1)
    assert third is None


def test_an_interrupted_album_goes_on_with_the_same_bytes(tiny, tmp_path: Path, monkeypatch):
    names, request = ["cat", "mug", "dog"], asking("cat")
    whole = short(tiny.model, request, names)
    real, done = studio.ascend, []

    def interrupt(*arguments, **rest):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(1)
        return real(*arguments, **rest)

    monkeypatch.setattr(studio, "ascend", interrupt)
    with pytest.raises(KeyboardInterrupt), journaling(tmp_path / "journal", resume=True):
        short(tiny.model, request, names)
    monkeypatch.setattr(studio, "ascend", real)
    seen = watched(monkeypatch)
    with journaling(tmp_path / "journal", resume=True):
        resumed = short(tiny.model, request, names)
    assert same(whole, resumed)
    assert len(done) == 4
    assert [len(own) for own in seen] == [4, 1]


def test_the_key_names_all_that_counts(tiny_clip, tiny_dual):
    """Each of these differs in one thing from the first."""
    request = asking("cat")
    plain = {"model": tiny_clip.model, "request": request, "listed": class_list(request)}
    plain |= {"count": 2, "settings": SHORT, "seed": 0}
    others = [
        {"model": tiny_dual.model},
        {"request": asking("cat", templates=("a {}.",))},
        {"request": asking("cat | old car")},
        {"listed": ("cat", "dog")},
        {"settings": SHORT.model_copy(update={"rate": 0.01})},
        {"seed": 1},
    ]
    keys = [studio.Studio(**{**plain, **other}).key([("cat", 0)]) for other in ({}, *others)]
    keys += [studio.Studio(**plain).key(shots) for shots in ([("cat", 1)], [("dog", 0)], [("cat", 0), ("cat", 1)])]
    assert len({str(key) for key in keys}) == 10


def test_progress_is_reported(tiny_clip):
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *step: told.append(step)):
        short(tiny_clip.model, asking("cat"), ["cat", "dog"])
    assert told == [("synthesise", done, 10) for done in (4, 5, 9, 10)]


@pytest.mark.parametrize(("names", "count"), [(["cat"], 0), (["zebra"], 1)])
def test_wrong_calls(tiny_clip, names, count):
    with pytest.raises(ValueError, match="class list lacks"):
        short(tiny_clip.model, asking("cat"), names, count=count)


def test_one_class_alone_cannot_be_recognised(tiny_clip):
    with pytest.raises(UnsupportedError, match="--retain NAMES"):
        short(tiny_clip.model, Request(forget=("cat",)), ["cat"])
