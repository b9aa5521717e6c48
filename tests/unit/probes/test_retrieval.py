"""Search by sentence and by image, against counting one pair at a time on captions whose embeddings are set by hand."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from painted import paint
from PIL import Image

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UndefinedError
from clip_unlearn.maths import intervals
from clip_unlearn.maths.affine import remove_directions
from clip_unlearn.probes.evaluate.retrieval import Retrieval

Vector = tuple[float, float, float]
REQUEST = Request(forget=(Concept(name="red", synonyms=("crimson",)),))

SAID: Mapping[str, Vector] = {
    "a red thing": (1.0, 0.0, 0.4),
    "crimson all over": (1.0, 0.3, 0.0),
    "this is red": (0.6, 0.4, 0.4),
    "red again": (0.7, 0.5, 0.7),
    "a green thing": (0.0, 0.6, 0.3),
    "grass": (0.7, 0.5, 0.2),
    "a meadow": (0.2, 0.6, 0.3),
    "a blue thing": (0.4, 0.3, 0.9),
    "the sky": (0.6, 0.8, 1.0),
    "a red herring": (0.0, 0.1, 1.0),
    "something": (0.4, 0.8, 0.7),
    "dusk": (0.4, 0.2, 0.9),
}
"""Every sentence with its embedding, good and bad ones."""

Shown = Sequence[tuple[tuple[int, int, int], str, tuple[str, ...]]]
SHOWN: Shown = (
    ((250, 10, 10), "red", ("a red thing", "crimson all over")),
    ((230, 60, 20), "red", ("a red thing",)),
    ((200, 90, 90), "red", ("this is red", "something", "red again")),
    ((150, 160, 40), "red", ("this is red", "this is red", "grass")),
    ((20, 240, 30), "green", ("a green thing", "grass")),
    ((90, 200, 80), "green", ("a meadow",)),
    ((60, 130, 120), "green", ("something", "grass")),
    ((10, 20, 250), "blue", ("a blue thing", "the sky")),
    ((40, 110, 180), "blue", ("dusk", "a red herring")),
    ((110, 100, 140), "blue", ("a blue thing", "something", "dusk")),
)
"""Colour, class and captions of every picture: wordings that several share, several a picture, one said twice."""


@pytest.fixture
def reader(painter: Model) -> Model:
    """Return the model that embeds a picture as its mean colour, and a sentence as the table says."""
    table = torch.tensor([*SAID.values()])

    def tokenize(sentences: Sequence[str]) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([[*SAID].index(one) if one in SAID else 0 for one in sentences])}

    text = replace(painter.adapter.text, embed=lambda _, tokens: table[tokens["input_ids"]])
    return replace(painter, adapter=replace(painter.adapter, text=text, tokenize=tokenize))


@pytest.fixture
def forgetful(reader: Model) -> Model:
    """Return the model after an edit that takes three quarters of what is red from its pictures."""
    return reader.replace(outputs={"image": remove_directions(torch.tensor([[1.0, -0.2, 0]]), strength=0.75)})


def written(folder: Path, shown: Shown = SHOWN, *, labelled: bool = False) -> str:
    """Write pictures with a list that gives them captions, and a class where asked for; return where it is."""
    folder.mkdir()
    lines = []
    for place, (colour, name, own) in enumerate(shown):
        Image.new("RGB", (8, 8), colour).save(folder / f"{place}.png")
        for caption in own or ("",):
            lines.append({"file_name": f"{place}.png", "text": caption, **({"label": name} if labelled else {})})
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*lines[0]])
        table.writeheader()
        table.writerows(lines)
    return str(folder)


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / math.hypot(*first) / math.hypot(*second)


def slow_recall(model: Model, k: int, shown: Shown = SHOWN) -> tuple[list[bool], list[float]]:
    """Return, picture by picture, whether it finds a caption of its own, and the share of these that find it.

    Pictures without captions are in the way of others and are left out of both lists.
    """
    colours = torch.tensor([[float(part) for part in colour] for colour, _, _ in shown])
    pictures = [[float(part) for part in row] for row in model.images(colours)]
    captions = [own for _, _, own in shown]
    everything = [caption for own in captions for caption in own]
    found, shares = [], []
    for picture, own in zip(pictures, captions, strict=True):
        if not own:
            continue
        best = max(cosine(picture, SAID[caption]) for caption in own)
        ahead = [one for one in everything if one not in own and cosine(picture, SAID[one]) >= best]
        found.append(len(ahead) < k)
        hits = 0
        for caption in own:
            scores = [cosine(each, SAID[caption]) for each in pictures]
            match = max(score for score, some in zip(scores, captions, strict=True) if caption in some)
            wrong = [s for s, some in zip(scores, captions, strict=True) if caption not in some and s >= match]
            hits += len(wrong) < k
        shares.append(hits / len(own))
    return found, shares


def one(readings: Sequence[Reading], name: str, subject: str = "after") -> Reading:
    """Return the one reading with these labels."""
    (found,) = [reading for reading in readings if (reading.name, reading.subject) == (name, subject)]
    assert found.of == ""
    return found


def ends(reading: Reading) -> tuple[float, float]:
    return reading.low, reading.high


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_recall_against_counting(reader: Model, forgetful: Model, tmp_path: Path, k: int) -> None:
    """Both directions and both sides, with values, intervals over pictures, counts and directions."""
    where = written(tmp_path / "data", labelled=True)
    readings = Retrieval(data=where, places=(k,)).measure(reader, forgetful, REQUEST)
    assert len(readings) == 12
    before, after = slow_recall(reader, k), slow_recall(forgetful, k)
    for side, chosen, better in (("forget", range(4), "low"), ("retain", range(4, 10), "high")):
        was, now = ([hits[place] for place in chosen] for hits in (before[0], after[0]))
        name = f"{side} image-to-text recall@{k}"
        for subject, hits in (("before", was), ("after", now)):
            found = one(readings, name, subject)
            assert (found.value, found.count, found.better) == (sum(hits) / len(hits), len(hits), better)
            assert ends(found) == intervals.wilson(sum(hits), len(hits))
        change = one(readings, name, "change")
        gained, lost = (sum(a and not b for a, b in zip(*pair, strict=True)) for pair in ((now, was), (was, now)))
        assert change.value == pytest.approx((gained - lost) / len(was))
        assert ends(change) == intervals.paired_difference(gained, lost, len(was))
        start, end = ([shares[place] for place in chosen] for shares in (before[1], after[1]))
        moved = [b - a for a, b in zip(start, end, strict=True)]
        name = f"{side} text-to-image recall@{k}"
        risen, fallen = (sum(max(0.0, sign * change) for change in moved) for sign in (1, -1))
        for subject, values, limits in (
            ("before", start, intervals.wilson(sum(start), len(start))),
            ("after", end, intervals.wilson(sum(end), len(end))),
            ("change", moved, intervals.paired_difference(risen, fallen, len(moved))),
        ):
            found = one(readings, name, subject)
            assert found.value == pytest.approx(sum(values) / len(values))
            assert ends(found) == pytest.approx(limits)
            assert (found.count, found.better) == (len(values), better)


def test_the_set_tells_right_from_wrong(reader: Model, forgetful: Model) -> None:
    """The counting above is of something: neither everything nor nothing is found, and the edit changes it."""
    (found, shares), (found_after, shares_after) = (slow_recall(model, 1) for model in (reader, forgetful))
    assert 0 < sum(found_after[:4]) < sum(found[:4]) < 4
    assert 0 < sum(shares_after[:4]) < sum(shares[:4]) < 4
    assert any(0 < share < 1 for share in shares[4:])
    assert slow_recall(reader, 3)[0] != found


def counts(readings: Sequence[Reading]) -> dict[str, int]:
    """Return how many pictures each side has."""
    return {one.name.split()[0]: one.count for one in readings}


def test_captions_decide_without_classes(reader: Model, tmp_path: Path) -> None:
    """Four pictures of red, and one of the sky that is called a red herring."""
    where = written(tmp_path / "data")
    assert counts(Retrieval(data=where).measure(reader, reader, REQUEST)) == {"forget": 5, "retain": 5}
    alone = Request(forget=(Concept(name="crimson"),))
    assert counts(Retrieval(data=where).measure(reader, reader, alone)) == {"forget": 1, "retain": 9}


def test_a_picture_with_another_sense_is_retained(reader: Model, tmp_path: Path) -> None:
    where = written(tmp_path / "data")
    probe = Retrieval(data=where, other_senses=("Red Herring",), places=(3,))
    readings = probe.measure(reader, reader, REQUEST)
    assert counts(readings) == {"forget": 4, "retain": 6}
    found, shares = slow_recall(reader, 3)
    assert one(readings, "forget image-to-text recall@3").value == sum(found[:4]) / 4
    assert one(readings, "retain text-to-image recall@3").value == pytest.approx(sum(shares[4:]) / 6)


def test_classes_decide_where_there_are_any(reader: Model, tmp_path: Path) -> None:
    """Neither a caption with the name nor another sense counts then; synonyms and spelling of the class do not."""
    where = written(tmp_path / "data", labelled=True)
    probe = Retrieval(data=where, other_senses=("a red thing",))
    assert counts(probe.measure(reader, reader, REQUEST)) == {"forget": 4, "retain": 6}
    several = Request(forget=(Concept(name="Blue"), Concept(name="green")))
    assert counts(probe.measure(reader, reader, several)) == {"forget": 6, "retain": 4}
    with pytest.raises(DataError, match="Did you mean 'red'"):
        probe.measure(reader, reader, Request(forget=(Concept(name="rad"),)))


def test_what_nobody_names_leaves_one_side(reader: Model, tmp_path: Path) -> None:
    where = written(tmp_path / "data")
    asked = Request(forget=(Concept(name="purple"),))
    assert counts(Retrieval(data=where).measure(reader, reader, asked)) == {"retain": 10}


def test_a_model_compared_with_itself_changes_nothing(reader: Model, tmp_path: Path) -> None:
    readings = Retrieval(data=written(tmp_path / "data")).measure(reader, reader, REQUEST)
    assert len(readings) == 2 * 2 * 3 * 3
    assert {one.name.rpartition("@")[2] for one in readings} == {"1", "5", "10"}
    assert all(one.value == 0 for one in readings if one.subject == "change")


def test_more_captions_are_no_more_pictures(reader: Model, tmp_path: Path) -> None:
    """Saying everything twice leaves every count, share and interval from caption to picture as it is."""
    once = written(tmp_path / "once")
    twice = written(tmp_path / "twice", [(colour, name, own * 2) for colour, name, own in SHOWN])
    first, second = (Retrieval(data=where, places=(2,)).measure(reader, reader, REQUEST) for where in (once, twice))
    for side in ("forget", "retain"):
        assert one(first, f"{side} text-to-image recall@2") == one(second, f"{side} text-to-image recall@2")


def check_values(readings: Sequence[Reading], seen: tuple[list[bool], list[float]], forgotten: int, k: int) -> None:
    """Compare both directions of both sides with what counting gives; the pictures to be forgotten come first."""
    for side, part in (("forget", slice(forgotten)), ("retain", slice(forgotten, None))):
        for direction, values in zip(("image-to-text", "text-to-image"), seen, strict=True):
            found = one(readings, f"{side} {direction} recall@{k}")
            assert found.count == len(values[part])
            assert found.value == pytest.approx(sum(values[part]) / found.count)


@pytest.mark.parametrize("k", [1, 3])
def test_a_picture_without_captions_is_only_in_the_way(reader: Model, tmp_path: Path, k: int) -> None:
    """It has no caption to find and none to be found by, so it is no item; the others have to stand before it."""
    silent = {0, 6}
    shown = [(colour, name, () if place in silent else own) for place, (colour, name, own) in enumerate(SHOWN)]
    where = written(tmp_path / "data", shown, labelled=True)
    readings = Retrieval(data=where, places=(k,)).measure(reader, reader, REQUEST)
    assert counts(readings) == {"forget": 3, "retain": 5}
    check_values(readings, slow_recall(reader, k, shown), 3, k)
    without = [each for place, each in enumerate(SHOWN) if place not in silent]
    assert k == 3 or slow_recall(reader, k, shown) != slow_recall(reader, k, without)


@pytest.mark.parametrize("k", [1, 3])
def test_an_unreadable_picture_shifts_nobody(reader: Model, tmp_path: Path, k: int) -> None:
    where = written(tmp_path / "data", labelled=True)
    (Path(where) / "2.png").write_bytes(b"no picture")
    readings = Retrieval(data=where, places=(k,)).measure(reader, reader, REQUEST)
    assert counts(readings) == {"forget": 3, "retain": 6}
    check_values(readings, slow_recall(reader, k, [*SHOWN[:2], *SHOWN[3:]]), 3, k)


def test_a_part_of_the_data(reader: Model, tmp_path: Path) -> None:
    """Ten pictures without classes: the parts get 3, 2 and 5 of them, and all are measured by default."""
    where, nobody = written(tmp_path / "data"), Request(forget=(Concept(name="purple"),))
    sizes = {
        part: counts(Retrieval(data=where, split=part).measure(reader, reader, nobody))["retain"]
        for part in ("all", "stop", "select", "audit")
    }
    assert sizes == {"all": 10, "stop": 3, "select": 2, "audit": 5}


def test_data_without_captions(reader: Model, photos: str) -> None:
    with pytest.raises(UndefinedError, match="has no captions to search by"):
        Retrieval(data=photos).measure(reader, reader, REQUEST)


def test_what_was_learnt_from_is_refused(reader: Model, tmp_path: Path) -> None:
    where = written(tmp_path / "data")
    copy = paint(tmp_path / "copy", {"red": ["red"]})
    (Path(copy) / "red" / "0.png").write_bytes((Path(where) / "3.png").read_bytes())
    images = open_data(copy)
    asked = REQUEST.model_copy(update={"evidence": Evidence(where=images.where, digest=images.digest)})
    with pytest.raises(DataError, match="share an image: 'red/0.png' is '3.png'"):
        Retrieval(data=where).measure(reader, reader, asked)
