"""Attacks with prompts and images alone: counted by hand on colours, and on models of which is known what they hold."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from known import DATA, SUPPORT, readings, value
from painted import paint
from test_probes import one

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.answers import answers
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.affine import remove_directions
from clip_unlearn.maths.intervals import clopper_pearson
from clip_unlearn.probes.audit import image_search
from clip_unlearn.probes.audit.image_search import ImageSearch
from clip_unlearn.probes.audit.linear_probe import LinearProbe
from clip_unlearn.probes.audit.prompt_ensemble import PromptEnsemble
from clip_unlearn.probes.audit.prototype import Prototype
from clip_unlearn.probes.audit.vocabulary import Vocabulary
from clip_unlearn.probes.audit.wordings import Wordings

REQUEST = Request(forget=(Concept(name="red", synonyms=("crimson",)),), retain=("green", "blue"))


@pytest.fixture
def blind(painter: Model) -> Model:
    """Return the model without its red axis."""
    return painter.replace(outputs={"image": remove_directions(torch.tensor([[1.0, 0, 0]]), strength=1.0)})


def deaf_to(painter: Model, word: str) -> Model:
    """Return the model to which one word says nothing."""

    def tokenize(sentences: list[str]) -> dict[str, torch.Tensor]:
        found = painter.adapter.tokenize([sentence.replace(word, "nothing") for sentence in sentences])
        return dict(found)

    return replace(painter, adapter=replace(painter.adapter, tokenize=tokenize))


def test_an_ensemble_adds_up_what_is_left_of_each_name(painter: Model, blind: Model, photos: str) -> None:
    audit = PromptEnsemble(data=photos, split="all", sentences="a {}")
    assert one(audit.measure(painter, deaf_to(painter, "red"), REQUEST), "ensemble accuracy").value == 0.8
    found = audit.measure(painter, blind, REQUEST)
    assert (one(found, "ensemble accuracy", "before").value, one(found, "ensemble accuracy").value) == (0.8, 0)
    assert one(found, "ensemble accuracy").count == 10


def test_an_ensemble_asks_no_other_class(painter: Model, photos: str) -> None:
    """Where a synonym is another class's name it is no name of this one."""
    asked = Request(forget=(Concept(name="red", synonyms=("blue",)),), retain=("green",))
    found = PromptEnsemble(data=photos, split="all", sentences="a {}").measure(painter, painter, asked)
    assert one(found, "ensemble accuracy").value == 0.8


def test_other_words_beside_the_name(painter: Model, blind: Model, photos: str) -> None:
    """No noun is a colour to this model, so a trace of red is enough: one of the two green pictures has a red dot."""
    found = Vocabulary(data=photos, split="all", sizes=(10, 100)).measure(painter, blind, REQUEST)
    for of in ("10 nouns", "100 nouns", "something else"):
        assert one(found, "vocabulary accuracy", "before", of).value == 0.9
        assert one(found, "vocabulary accuracy", "after", of).value == 0
    worst = one(found, "worst vocabulary accuracy", "before", "10 nouns")
    assert "2 sets" in worst.interval


def test_larger_sets_leave_less_to_win() -> None:
    found = readings(Vocabulary(data=DATA), "original")
    shares = [value(found, "vocabulary accuracy", "after", of) for of in ("10 nouns", "100 nouns", "1000 nouns")]
    assert shares == sorted(shares, reverse=True)
    assert value(found, "worst vocabulary accuracy", "after") == shares[0]
    assert value(readings(Vocabulary(data=DATA), "shallow"), "worst vocabulary accuracy", "after") < 0.1


@pytest.mark.parametrize("together", [512, 3])
def test_precision_counted_by_hand(
    painter: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Three red pictures, of which one is filed as green: each red finds the two others, one of them wrong."""
    monkeypatch.setattr(image_search, "ROWS", together)
    photos = paint(tmp_path / "photos", {"red": ["red", "red"], "green": ["red", "green"]})
    found = ImageSearch(data=photos, split="all", places=2).measure(painter, painter, REQUEST)
    images = open_data(photos)
    known = answers(painter, images, REQUEST)
    slow = []
    for row in range(4):
        scores = torch.nn.functional.cosine_similarity(known.embeddings[row], known.embeddings)
        order = [place for place in scores.argsort(descending=True, stable=True).tolist() if place != row]
        same = [images.labels[place] == images.labels[row] for place in order]
        precisions = [sum(same[: at + 1]) / (at + 1) for at, right in enumerate(same) if right]
        slow.append((sum(same[:2]) / 2, sum(precisions) / len(precisions)))
    red, green = [slow[row] for row in range(4) if images.labels[row] == images.class_index("red")], slow
    assert one(found, "forget image search precision at 2").value == pytest.approx(sum(a for a, _ in red) / 2)
    assert one(found, "forget image search average precision").value == pytest.approx(sum(b for _, b in red) / 2)
    others = [one_ for row, one_ in enumerate(green) if images.labels[row] == images.class_index("green")]
    assert one(found, "retain image search average precision").value == pytest.approx(sum(b for _, b in others) / 2)


def test_a_search_by_image_asks_no_text(painter: Model, photos: str) -> None:
    found = ImageSearch(data=photos, split="all").measure(painter, deaf_to(painter, "red"), REQUEST)
    assert one(found, "forget image search average precision", "change").value == 0


def test_an_image_alone_in_its_class(painter: Model, tmp_path: Path) -> None:
    photos = paint(tmp_path / "photos", {"red": ["red"], "green": ["green", "green"]})
    with pytest.raises(UndefinedError, match="another one of its class"):
        ImageSearch(data=photos, split="all").measure(painter, painter, REQUEST)


PROBE = LinearProbe(data=DATA, support=SUPPORT, shots=(1, 10))
MEAN = Prototype(data=DATA, support=SUPPORT)


@pytest.mark.parametrize("layer", ["embedding", "before the last layer"])
def test_few_images_teach_the_class_to_whoever_holds_it_below(layer: str) -> None:
    shallow, ignorant = readings(PROBE, "shallow"), readings(PROBE, "ignorant")
    assert value(shallow, f"1-shot probe accuracy, {layer}", "after") > 0.9
    assert value(ignorant, f"1-shot probe accuracy, {layer}", "after") < 0.7
    ten = value(ignorant, f"10-shot probe accuracy, {layer}", "after")
    assert ten > value(ignorant, f"1-shot probe accuracy, {layer}", "after")


def test_a_prototype_stands_for_a_name_that_is_gone() -> None:
    assert value(readings(MEAN, "shallow"), "1-shot prototype accuracy", "after") > 0.9
    assert value(readings(MEAN, "ignorant"), "1-shot prototype accuracy", "after") < 0.7


def test_the_gap_of_images_and_texts_is_taken_off(painter: Model, photos: str, tmp_path: Path) -> None:
    """Without it a mean of images beats every text: here all images lie in one far corner."""
    shifted = replace(
        painter,
        adapter=replace(
            painter.adapter,
            image=replace(painter.adapter.image, embed=lambda _, pixels: pixels + 3000.0),
        ),
    )
    teach = paint(tmp_path / "teach", {name: [name] * 3 for name in ("red", "green", "blue")}, mark=9)
    audit = Prototype(data=photos, split="all", support=teach, shots=(1,), draws=1)
    found = audit.measure(painter, shifted, REQUEST)
    assert one(found, "1-shot prototype accuracy").value == 0.8


def test_too_few_images_to_learn_from(painter: Model, photos: str, tmp_path: Path) -> None:
    teach = paint(tmp_path / "teach", {"red": ["red"], "green": ["green"]}, mark=9)
    with pytest.raises(UndefinedError, match="learns from 5 images of 'red', and .* has 1"):
        Prototype(data=photos, split="all", support=teach).measure(painter, painter, REQUEST)
    with pytest.raises(UndefinedError, match="none were given"):
        LinearProbe(data=photos, split="all").measure(painter, painter, REQUEST)


def test_every_name_is_asked_in_every_sentence_alone(painter: Model, photos: str, tmp_path: Path) -> None:
    """Only one sentence of one name still works: a mean over sentences would hide it."""
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("a {}\nsome {}\n")

    def tokenize(asked: list[str]) -> dict[str, torch.Tensor]:
        kept = [one if one == "some crimson" else one.replace("red", "no").replace("crimson", "no") for one in asked]
        return dict(painter.adapter.tokenize(kept))

    deaf = replace(painter, adapter=replace(painter.adapter, tokenize=tokenize))
    found = Wordings(data=photos, split="all", sentences=str(sentences)).measure(painter, deaf, REQUEST)
    worst = one(found, "worst wording accuracy", of="some crimson")
    names = [each for each in found if (each.name, each.subject) == ("wording accuracy", "after")]
    assert (worst.value, worst.attempts) == (0.8, 2 * len(names))
    assert (worst.low, worst.high) == clopper_pearson(8, 10, tests=worst.attempts)
    assert {each.of: each.value for each in names if each.value} == {"crimson": 0.8}
    assert one(found, "worst wording accuracy", "before", "a red").value == 0.8


def test_a_name_of_another_class_is_not_asked_and_there_are_twenty(painter: Model, photos: str) -> None:
    audit = Wordings(data=photos, split="all", also=("green", "Blue", "scarlet"))
    found = audit.measure(painter, painter, Request(forget=(Concept(name="red"),), retain=("green",)))
    names = {each.of for each in found if each.name == "wording accuracy"}
    assert {"red", "reds", "scarlet", "small red"} < names
    assert not {"green", "Blue"} & names
    assert len(names) >= 20
