"""`find` as a run: what is decided, what is written, and what is not when it fails."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, OutputError
from clip_unlearn.models.open import open_model
from clip_unlearn.runs import find as run
from clip_unlearn.runs.find import find, look
from clip_unlearn.runs.found import Finding, FindOrder
from clip_unlearn.runs.recipe import ModelChoice

OTHERS = ("bowl", "cat", "teapot", "trousers")
SHOWN = 6
"""Pictures of every class."""


@pytest.fixture(scope="module")
def sandbox() -> Model:
    return open_model("sandbox")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with photos of mugs and of four other classes, and one file that cannot be read."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    images = open_data("sandbox:photo@select")
    for name in ("mug", *OTHERS):
        (folder / name).mkdir(parents=True)
        own = images.class_index(name)
        for place in [place for place, label in enumerate(images.labels) if label == own][:SHOWN]:
            images.picture(place).save(folder / name / f"{place}.png")
    (folder / "bowl" / "broken.png").write_bytes(b"no picture")
    return str(folder)


def order(data: str, **changes: object) -> FindOrder:
    settings = {"others": OTHERS, "background": "none", "templates": "a photo of a {}.", **changes}
    return FindOrder(model=ModelChoice(id="sandbox"), name=Concept(name="mug"), data=data, **settings)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_decided(sandbox: Model, photos: str, tmp_path: Path) -> None:
    found = find(order(photos), tmp_path / "out", model=sandbox)
    images = found.images
    assert len(images) == found.counts.readable == 30
    assert [one.key for one in images if one.chosen] == [one.key for one in images if one.key.startswith("mug/")]
    probabilities = [one.probability for one in images if one.chosen]
    assert found.threshold == min(probabilities)
    assert found.expected.precision == pytest.approx(sum(probabilities) / 6)
    assert found.expected.precision >= 0.9
    assert found.expected.wrong == pytest.approx(1 - found.expected.precision)
    everything = sum(one.probability for one in images)
    assert found.expected.images == pytest.approx(everything)
    assert found.expected.missed == pytest.approx(1 - sum(probabilities) / everything)
    assert found.names == 4
    assert found.concept.name == "mug"
    assert found.data.digest == open_data(photos).digest
    assert found.data.count == 31
    assert found.model.digest == sandbox.fingerprint
    assert found.sentences == ("a photo of a {}.",)
    assert len(found.quarantine) == 1
    assert found.quarantine[0].startswith("bowl/broken.png: ")
    assert found.truth is not None
    assert (found.truth.by, found.truth.images) == ("labels", 6)
    assert (found.truth.precision.value, found.truth.recall.value, found.truth.average_precision) == (1, 1, 1)
    assert found.calibration.match.mean > found.calibration.foreign.mean
    assert found.calibration.expected_foreign.deviation > 0


def test_labels_of_the_result(sandbox: Model, photos: str, tmp_path: Path) -> None:
    """The concept where chosen, the rival where its probability is at most 0.05, and nothing between."""
    found = find(order(photos, limit=4), tmp_path / "out", model=sandbox)
    for one in found.images:
        assert one.other in OTHERS
        if one.chosen:
            assert one.label == "mug"
        else:
            assert one.label == (one.other if one.probability <= 0.05 else None)
    labels = Counter(one.label for one in found.images)
    assert (labels["mug"], labels[None]) == (4, found.counts.between)
    assert found.counts.labelled_other == 30 - 4 - found.counts.between > 0
    images = open_data(str(tmp_path / "out"))
    assert images.classes[0] == "mug"
    assert set(images.classes[1:]) <= set(OTHERS)
    assert images.labels.count(0) == 4
    assert len(images) == 30 - found.counts.between


def test_a_limit_takes_the_most_probable(sandbox: Model, photos: str, tmp_path: Path) -> None:
    whole = find(order(photos), tmp_path / "whole", model=sandbox)
    part = find(order(photos, limit=2), tmp_path / "part", model=sandbox)
    best = sorted((one.probability for one in whole.images), reverse=True)[:2]
    assert sorted((one.probability for one in part.images if one.chosen), reverse=True) == best
    assert part.counts.between == whole.counts.between + 4, "what the limit cuts off is no other name"
    assert part.expected.missed > whole.expected.missed
    assert part.truth is not None
    assert part.truth.recall.value == pytest.approx(2 / 6)


def test_a_lower_precision_takes_more(sandbox: Model, photos: str, tmp_path: Path) -> None:
    low = find(order(photos, precision=0.3), tmp_path / "low", model=sandbox)
    assert low.counts.chosen > 6
    assert 0.3 <= low.expected.precision < 0.9
    assert low.truth is not None
    assert low.truth.precision.value == pytest.approx(6 / low.counts.chosen)


def test_rivals_are_counted(sandbox: Model, photos: str, tmp_path: Path) -> None:
    found = find(order(photos), tmp_path / "out", model=sandbox)
    won = Counter(one.other for one in found.images if one.chosen)
    assert {rival.name: rival.chosen for rival in found.rivals if rival.chosen} == dict(won)
    assert sum(rival.refused for rival in found.rivals) == 0
    same = find(order(photos, precision=0.02), tmp_path / "same", model=sandbox)
    assert len(same.rivals) > 1
    counts = [rival.chosen + rival.refused for rival in same.rivals]
    assert counts == sorted(counts, reverse=True)


def test_a_rival_that_means_the_same_refuses_and_is_named(
    sandbox: Model, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another name took a share of all mugs but one: without a rival they would be chosen."""
    real = run.score

    def doubted(*given: object) -> run.Scores:
        scores = real(*given)
        halves = scores.probabilities.clone()
        shown = (halves > 0.5).nonzero().flatten()
        halves[shown[1:]] *= 0.7
        return run.Scores(**{**vars(scores), "probabilities": halves})

    monkeypatch.setattr(run, "score", doubted)
    found = look(sandbox, open_data(photos), asking(), order(photos)).finding
    assert found.counts.chosen < 6
    refused = sum(rival.refused for rival in found.rivals)
    assert refused == 6 - found.counts.chosen
    assert {rival.name for rival in found.rivals} <= set(OTHERS)


def asking() -> Request:
    return Request(forget=(Concept(name="mug"),), retain=OTHERS)


def test_nothing_probable_enough_names_the_most_probable(sandbox: Model, photos: str) -> None:
    images = open_data(photos)
    some = images.take(row for row, key in enumerate(images.keys) if not key.startswith("mug/"))
    with pytest.raises(DataError) as refused:
        look(sandbox, some, asking(), order(photos))
    said = str(refused.value)
    assert f"No image of {images.where} shows 'mug' with an expected precision of 0.9" in said
    embedded, names = embed_images(sandbox, some), run.names_of(sandbox, asking(), "none")
    scores = run.score(embedded.vectors, names, sandbox.logit_scale)
    best = int(scores.probabilities.argmax())
    assert f"'{some.keys[embedded.kept[best]]}' with {float(scores.probabilities[best]):.2f}" in said
    assert f"'{OTHERS[int(scores.rivals[best])]}' comes next" in said
    assert "--name 'mug | ...'" in said
    assert "--precision" in said


def test_what_is_written(sandbox: Model, photos: str, tmp_path: Path) -> None:
    found = find(order(photos), tmp_path / "deep" / "out", model=sandbox)
    folder = tmp_path / "deep" / "out"
    assert sorted(tree(folder)) == ["contact.png", "find.json", "forget-set.csv"]
    assert Finding.model_validate_json((folder / "find.json").read_text()) == found
    with (folder / "forget-set.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    by_key = {one.key: one for one in found.images}
    assert [line["key"] for line in lines] == sorted(by_key, key=lambda key: -by_key[key].probability)
    for line in lines:
        one = by_key[line["key"]]
        assert float(line["probability"]) == pytest.approx(one.probability, abs=1e-6)
        assert (line["chosen"], line["other"]) == ("yes" if one.chosen else "no", one.other)
    assert b"\r" not in (folder / "forget-set.csv").read_bytes()
    with Image.open(folder / "contact.png") as sheet:
        assert sheet.size == (1204, 18 + 114 + 18 + 2 * 114)


def test_the_sheet_shows_the_right_pictures(sandbox: Model, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of those not chosen is the most probable of them."""
    found = look(sandbox, open_data(photos), asking(), order(photos))
    images = open_data(photos)
    ranked = [images.keys[row] for row in found.order.tolist()]
    by_key = {one.key: one.probability for one in found.finding.images}
    assert ranked == sorted(by_key, key=lambda key: -by_key[key])
    assert len(ranked) == 30, "the broken file is not in it"


def test_equal_orders_give_equal_bytes(sandbox: Model, photos: str, tmp_path: Path) -> None:
    find(order(photos), tmp_path / "one", model=sandbox)
    state = torch.get_rng_state()
    find(order(photos), tmp_path / "two", model=open_model("sandbox"))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_left_of_a_run_that_fails(
    sandbox: Model, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(order(photos), tmp_path / "kept", model=sandbox)
    before = tree(tmp_path / "kept")

    def fail(*_given: object) -> Image.Image:
        raise DataError("the picture is gone")

    monkeypatch.setattr(run, "found_sheet", fail)
    for name, force in (("new", False), ("kept", True)):
        with pytest.raises(DataError, match="is gone"):
            find(order(photos), tmp_path / name, force=force, model=sandbox)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert tree(tmp_path / "kept") == before


def test_a_folder_with_content_stays_unless_forced(sandbox: Model, photos: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        find(order("nothing here"), tmp_path / "out")
    find(order(photos), tmp_path / "out", force=True, model=sandbox)
    assert sorted(tree(tmp_path / "out")) == ["contact.png", "find.json", "forget-set.csv"]


def test_a_result_is_not_looked_at_again(sandbox: Model, photos: str, tmp_path: Path) -> None:
    find(order(photos), tmp_path / "out", model=sandbox)
    for where in (str(tmp_path / "out"), f"{tmp_path / 'out'}@stop"):
        with pytest.raises(DataError, match="is a result of find"):
            find(order(where), tmp_path / "again", model=sandbox)


def test_synonyms_are_written_down(sandbox: Model, photos: str, tmp_path: Path) -> None:
    asked = order(photos, background="nouns", templates=None).model_copy(update={"name": Concept(name="cat")})
    found = find(asked.model_copy(update={"others": ()}), tmp_path / "out", model=sandbox)
    assert found.sentences == run.SENTENCES
    assert found.names > 1100
    assert "kitten" in found.neutral
    assert found.truth is not None
    assert found.truth.precision.value == 1
    written = json.loads((tmp_path / "out" / "find.json").read_text())
    assert written["concept"] == found.concept.model_dump(mode="json")
