"""`forget` with other data, and `forget` that goes on after an interruption, through the command line."""

import json
from pathlib import Path

import pytest
from in_process import main

from clip_unlearn.core.record import Reading, Record
from clip_unlearn.data.open import open_data
from clip_unlearn.synthesis import studio


@pytest.fixture(scope="module")
def sketches(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with eight sketches of each of five classes of the embedded world, mug not among them."""
    folder = tmp_path_factory.mktemp("data") / "sketches"
    images = open_data("sandbox:sketch@stop")
    for index, name in enumerate(images.classes):
        if name in {"cat", "car", "bowl", "teapot", "vase"}:
            (folder / name).mkdir(parents=True)
            for place in [place for place, label in enumerate(images.labels) if label == index][:8]:
                images.picture(place).save(folder / name / f"{place}.png")
    return str(folder)


def test_other_data_and_the_average_score(
    tmp_path: Path, sketches: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # An edit that costs the others something: the score has more than zeros in it.
    asked = "forget --model sandbox --forget mug --method project --set strength=0.9 --data sandbox --probe zero_shot"
    others = ["--other-data", sketches, "--other-data", "sandbox:painting@select"]
    assert main(monkeypatch, *asked.split(), *others, "--out", str(tmp_path / "out")) == 0
    record = Record.load(tmp_path / "out" / "record.json")

    def level(name: str, subject: str, of: str = "") -> Reading:
        (found,) = (one for one in record.readings if (one.name, one.subject, one.of) == (name, subject, of))
        return found

    rest = [
        ("retain accuracy", ""),
        ("other data accuracy", sketches),
        ("other data accuracy", "sandbox:painting@select"),
    ]
    pairs = [(level(name, "before", of).value, level(name, "after", of).value) for name, of in rest]
    left = level("forget accuracy", "after").value / level("forget accuracy", "before").value
    score = level("average score", "after", "2 other data sets")
    assert score.value == pytest.approx((left + sum(max(0, (was - now) / was) for was, now in pairs)) / 4, abs=1e-12)
    assert 0 < score.low < score.value < score.high < 0.25
    counts = [level("other data accuracy", "after", of).count for _, of in rest[1:]]
    assert counts == [len(open_data(sketches)), len(open_data("sandbox:painting@select")) * 27 // 28]
    assert "average score" in capsys.readouterr().out
    asked = ["evaluate", "--model", "sandbox", "--data", "sandbox", "--patch", str(tmp_path / "out" / "patch"), *others]
    assert main(monkeypatch, *asked, "--json") == 0
    assert score.model_dump(mode="json") in json.loads(capsys.readouterr().out)
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "Average score: 2 other data sets" in page
    assert "## Other data accuracy" in page
    again = tmp_path / "again"
    assert main(monkeypatch, "forget", "--recipe", str(tmp_path / "out" / "recipe.yaml"), "--out", str(again)) == 0
    assert Record.load(again / "record.json").readings == record.readings


def test_other_data_are_checked_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for others, told in (
        (["nowhere"], "error: No data source 'nowhere'."),
        (["sandbox@stop", "sandbox@stop"], "error: Data sandbox@stop are given twice. Give other data"),
    ):
        flags = [word for one in others for word in ("--other-data", one)]
        asked = ["forget", "--model", "sandbox", "--forget", "mug", *flags, "--out", str(tmp_path / "out")]
        assert main(monkeypatch, *asked) == 2
        assert capsys.readouterr().err.startswith(told)
    assert list(tmp_path.iterdir()) == []


def test_other_data_of_a_model_alone_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(monkeypatch, "evaluate", "--model", "sandbox", "--data", "sandbox", "--other-data", "sandbox@stop") == 2
    assert capsys.readouterr().err == "error: --other-data tells what a patch costs. Give one with --patch.\n"


def test_an_interrupted_forget_goes_on_with_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "--model sandbox --forget mug --retain car --retain dog --background none"
    method = "--method leace --set pictures=synthetic --set pictures_each=2"
    asked = ["forget", *names.split(), *method.split()]
    whole, halted, journal = tmp_path / "whole", tmp_path / "halted", tmp_path / "halted.journal"
    ascend, calls = studio.ascend, []

    def counted(*arguments: object, **options: object) -> object:
        calls.append(len(arguments))
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return ascend(*arguments, **options)

    monkeypatch.setattr(studio, "ascend", counted)
    stop_at = 0
    assert main(monkeypatch, *asked, "--out", str(whole)) == 0
    assert len(calls) == 2, "once for the class, once for what is retained"
    calls.clear()
    stop_at = 2
    assert main(monkeypatch, *asked, "--out", str(halted)) == 130
    assert "--resume goes on from it" in capsys.readouterr().err
    assert not halted.exists()
    assert len(list(journal.iterdir())) == 1
    assert main(monkeypatch, *asked, "--out", str(halted), "--resume", "--dry-run") == 0
    assert len(list(journal.iterdir())) == 1
    calls.clear()
    stop_at = 0
    assert main(monkeypatch, *asked, "--out", str(halted), "--resume") == 0
    assert len(calls) == 1
    assert not journal.exists()
    tensors = [(out / "patch" / "patch.safetensors").read_bytes() for out in (whole, halted)]
    assert tensors[0] == tensors[1]
    assert "--resume" not in Record.load(halted / "record.json").command


def test_evidence_is_what_is_learned_from_and_all_data_are_measured(
    tmp_path: Path, sketches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = f"forget --model sandbox --forget cat --method leace --evidence {sketches} --data sandbox:photo@audit"
    assert main(monkeypatch, *asked.split(), "--probe", "zero_shot", "--out", str(tmp_path / "out")) == 0
    record = Record.load(tmp_path / "out" / "record.json")
    evidence = record.origin.request.evidence
    assert evidence is not None
    assert (evidence.where, evidence.digest) == (sketches, open_data(sketches).digest)
    assert record.data is not None
    assert record.data.where == "sandbox:photo@audit"
    assert record.data.count == len(open_data("sandbox:photo@audit"))
    assert f"path: {sketches}" in (tmp_path / "out" / "recipe.yaml").read_text()
