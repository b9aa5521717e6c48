"""Pictures with captions and no classes through `clip-unlearn forget`."""

import csv
import re
from pathlib import Path

import pytest
from in_process import main

from clip_unlearn.core.config import build
from clip_unlearn.core.record import Reading, Record
from clip_unlearn.data.open import open_data
from clip_unlearn.runs.plan import plan
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.sandbox import sentences, world

SHOWN = {"mug": 24, "cat": 12, "car": 12, "house": 12, "dress": 12}
"""How many pictures of each kind; no list says which kind a picture is of."""

RECALLS = {
    f"{side} {way} recall@{k}"
    for side in ("forget", "retain")
    for way in ("image-to-text", "text-to-image")
    for k in (1, 5, 10)
}


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with photos of the embedded world and a list of what two sentences say about each."""
    folder = tmp_path_factory.mktemp("data") / "captioned"
    folder.mkdir()
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "text"))
        for name, count in SHOWN.items():
            for index in range(count):
                picture = world.render(name, "photo", "stop", index)
                world.as_image(picture).save(folder / f"{name}-{index}.png")
                table.writerows((f"{name}-{index}.png", caption) for caption in sentences.captions(picture, 2))
    return str(folder)


def level(record: Record, name: str, subject: str = "after") -> Reading:
    (found,) = (one for one in record.readings if (one.name, one.subject) == (name, subject))
    return found


def naming(where: str, name: str) -> list[bool]:
    """Return which pictures have a caption with this word in it."""
    captions = open_data(where).captions
    return [any(re.search(rf"\b{name}s?\b", caption) for caption in own) for own in captions]


@pytest.mark.parametrize(
    ("method", "measured"),
    [("redirect", ""), ("cliperase --set descent.steps=3", "@audit")],
    ids=["redirect", "cliperase"],
)
def test_what_is_measured_without_classes(
    captioned: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    measured: str,
) -> None:
    """Recall is, on both sides; what needs classes is left out with its reason; the page speaks of captions."""
    asked = f"forget --model sandbox --forget mug --method {method} --data {captioned} --out {tmp_path / 'out'}"
    assert main(monkeypatch, *asked.split()) == 0
    record = Record.load(tmp_path / "out" / "record.json")
    assert {"zero_shot", "name_sweep", "over_forgetting"} <= {one.probe for one in record.skipped}
    assert {one.reason for one in record.skipped} == {"it needs class labels, and the data has none"}
    assert record.data is not None
    assert record.data.where == captioned + measured
    named = naming(record.data.where, "mug")
    assert 2 <= sum(named) < len(named)
    assert {one.name for one in record.readings if "recall" in one.name} == RECALLS
    for one in record.readings:
        if "recall" in one.name:
            assert one.count == (sum(named) if one.name.startswith("forget") else len(named) - sum(named))
    shown = capsys.readouterr().out
    assert "recall@10" in shown
    assert "not measured: zero_shot: it needs class labels, and the data has none" in shown
    headline = (tmp_path / "out" / "summary.md").read_text().split("\n\n")[2]
    assert f"{sum(named)} pictures of “mug”, searched by caption" in headline
    assert f"{len(named) - sum(named)} other pictures, searched by caption" in headline
    assert f"{100 * level(record, 'forget text-to-image recall@10').value:.1f} %" in headline


def test_captions_are_learnt_from_and_others_measured_on(
    captioned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence is the stop part alone, of which the method looks at some and learns from the rest."""
    asked = "forget --model sandbox --forget mug --method cliperase --set descent.steps=3 --background none"
    assert main(monkeypatch, *asked.split(), "--data", captioned, "--out", str(tmp_path / "out")) == 0
    record = Record.load(tmp_path / "out" / "record.json")
    evidence = record.origin.request.evidence
    assert evidence is not None
    assert (evidence.where, evidence.digest) == (f"{captioned}@stop", open_data(f"{captioned}@stop").digest)
    named = naming(evidence.where, "mug")
    looked_at = level(record, "stop-set forget accuracy", "before").count
    assert 1 <= looked_at < sum(named)
    assert 1 <= level(record, "stop-set retain accuracy", "before").count < len(named) - sum(named)
    assert record.origin.touches or record.origin.reason


def test_redirect_makes_captions_miss_their_pictures(
    captioned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f"forget --model sandbox --forget mug|beaker|cup --data {captioned} --out {tmp_path / 'out'}"
    assert main(monkeypatch, *asked.split()) == 0
    record = Record.load(tmp_path / "out" / "record.json")
    change = level(record, "forget text-to-image recall@10", "change")
    assert (change.better, change.count) == ("low", sum(naming(captioned, "(mug|beaker|cup)")))
    assert change.high < 0
    assert level(record, "retain text-to-image recall@10", "change").low > -0.25


@pytest.mark.parametrize("name", ["mog", "teapot", "mu"])
def test_what_no_caption_names_is_refused(
    captioned: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """One line, and nothing is written; the beginning of a word is no name."""
    out = tmp_path / "out"
    arguments = ["--method", "cliperase", "--data", captioned, "--out", str(out)]
    assert main(monkeypatch, "forget", "--model", "sandbox", "--forget", name, *arguments) == 2
    told = f"error: No caption of {captioned}@audit has any of these in it: {name}. Give other names or other data.\n"
    assert capsys.readouterr().err == told
    assert list(tmp_path.iterdir()) == []


def test_other_senses_of_the_method_reach_the_search(captioned: str) -> None:
    """What the method retains is measured as retained."""
    settings = {"other_senses": ["mug shot"]}
    asked = {
        "model": {"id": "sandbox"},
        "forget": ["mug"],
        "data": captioned,
        "method": {"name": "cliperase", "settings": settings},
    }
    (probe,) = [
        one for one in plan(build(Recipe, asked, where="recipe")).probes if "other_senses" in type(one).model_fields
    ]
    assert probe.model_dump()["other_senses"] == ("mug shot",)
