"""`find` as a user runs it: a list and a sheet, a result that other commands take as images, wrong input refused."""

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import main

from clip_unlearn.core.record import Record
from clip_unlearn.data.open import open_data
from clip_unlearn.runs.found import Finding

BASE = ["find", "--model", "sandbox", "--name", "mug"]
OTHERS = ("bowl", "cat", "teapot", "trousers")
QUICK = ["--background", "none", *(word for name in OTHERS for word in ("--not", name))]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty folder and return what it wrote to stdout."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        code = main(monkeypatch, *arguments)
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return shown.out

    return call


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a folder with eight photos of each of five classes, whose names say nothing."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    images = open_data("sandbox:photo@select")
    lines = []
    for name in ("mug", *OTHERS):
        own = images.class_index(name)
        for place in [place for place, label in enumerate(images.labels) if label == own][:8]:
            images.picture(place).save(folder / f"{place}.png")
            lines.append({"file_name": f"{place}.png", "text": "a picture"})
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(folder)


def labelled(folder: Path) -> Path:
    """Return a folder with eight other photos of each of the classes, by class."""
    images = open_data("sandbox:photo@audit")
    for name in ("mug", *OTHERS):
        (folder / name).mkdir(parents=True)
        own = images.class_index(name)
        for place in [place for place, label in enumerate(images.labels) if label == own][:8]:
            images.picture(place).save(folder / name / f"{place}.png")
    return folder


def test_a_concept_of_the_embedded_world(run: Run, tmp_path: Path) -> None:
    shown = run(*BASE, "--data", "sandbox:photo@select", "--out", "out/mugs")
    finding = Finding.model_validate_json((tmp_path / "out" / "mugs" / "find.json").read_text())
    assert finding.counts.readable == 952
    assert finding.truth is not None
    assert finding.truth.precision.low > 0.85
    assert finding.truth.recall.value > 0.75
    assert finding.truth.average_precision > 0.99
    assert "looked for  mug" in shown
    assert f"in          952 images of sandbox:photo@select, against {finding.names} other names" in shown
    assert f"chosen      {finding.counts.chosen}, with a probability of at least {finding.threshold:.3f}" in shown
    assert f"expected    {100 * finding.expected.wrong:.1f} % of them wrong" in shown
    assert f"by labels   precision 100.0 % ({100 * finding.truth.precision.low:.1f} to 100.0" in shown
    assert finding.rivals[0].name in shown
    assert "among the chosen" in shown
    counts = finding.counts
    assert f"as data     {counts.labelled_other} as other names, {counts.between} left out as uncertain" in shown
    for file in ("contact.png", "forget-set.csv"):
        assert (tmp_path / "out" / "mugs" / file).is_file()
        assert str(tmp_path / "out" / "mugs" / file) in shown or f"out/mugs/{file}" in shown
    images = open_data("out/mugs")
    assert images.keys[:1] == (finding.images[0].key,)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_options(run: Run, photos: str, tmp_path: Path) -> None:
    (tmp_path / "others.txt").write_text("bowl\ncat\nteapot\n")
    given = ["--background", "none", "--not", "others.txt", "--not", "trousers", "--templates", "a {}."]
    more = ["--precision", "0.8", "--limit", "3", "--device", "cpu", "--offline", "--json"]
    finding = Finding.model_validate_json(run(*BASE, "--data", photos, *given, *more, "--out", "out"))
    assert finding == Finding.model_validate_json((tmp_path / "out" / "find.json").read_text())
    order = finding.order
    assert (order.model.id, order.model.device, order.model.offline) == ("sandbox", "cpu", True)
    assert (order.others, order.background, order.templates) == (OTHERS, "none", "a {}.")
    assert (order.precision, order.limit) == (0.8, 3)
    assert finding.sentences == ("a {}.",)
    assert finding.names == 4
    assert finding.counts.chosen == 3
    assert finding.truth is None, "no caption says mug"


def test_defaults(run: Run, photos: str) -> None:
    order = Finding.model_validate_json(run(*BASE, "--data", photos, *QUICK, "--json")).order
    assert (order.precision, order.limit, order.templates) == (0.9, None, None)
    assert Path("out/find/find.json").is_file()


def test_synonyms_in_the_name(run: Run, photos: str) -> None:
    words = ["find", "--model", "sandbox", "--name", "mug | beaker", "--data", photos, *QUICK]
    assert "looked for  mug | beaker" in run(*words)


def test_the_result_is_what_to_forget(run: Run, photos: str, tmp_path: Path) -> None:
    """Nothing but the model says which of the images show a mug, and a method learns from that."""
    run(*BASE, "--data", photos, *QUICK, "--out", "found")
    learn = ["--method", "graddiff", "--set", "descent.steps=14", "--set", "descent.rate=0.005"]
    learn += ["--set", "descent.forget_batch=6", "--set", "descent.retain_batch=8", "--background", "none"]
    common = ["forget", "--model", "sandbox", "--forget", "mug", *learn, "--data", str(labelled(tmp_path / "other"))]
    run(*common, "--split", "all", "--evidence", "found", "--probe", "zero_shot", "--out", "forgotten")
    record = Record.load(tmp_path / "forgotten" / "record.json")
    assert open_data("found").digest in record.model_dump_json()
    accuracy = {
        one.subject: one for one in record.readings if (one.name, one.of) == ("forget accuracy", "") and one.count == 8
    }
    assert accuracy["before"].value == 1
    assert accuracy["after"].value < 0.5


def test_the_result_is_data_to_measure_on(run: Run, photos: str) -> None:
    run(*BASE, "--data", photos, *QUICK, "--out", "found")
    asked = ["forget", "--model", "sandbox", "--forget", "mug", "--method", "project", "--background", "none"]
    run(*asked, "--data", "found", "--split", "all", "--probe", "zero_shot", "--out", "forgotten")
    (before,) = (
        one
        for one in Record.load(Path("forgotten") / "record.json").readings
        if (one.name, one.subject, one.of) == ("forget accuracy", "before", "")
    )
    assert before.count == open_data("found").labels.count(0)
    assert open_data("found@stop").classes[0] == "mug"


def test_the_list_says_what_was_chosen(run: Run, photos: str) -> None:
    run(*BASE, "--data", photos, *QUICK, "--out", "found")
    with Path("found/forget-set.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 40
    assert [line["chosen"] for line in lines[:8]] == ["yes"] * 8
    assert {line["chosen"] for line in lines[8:]} == {"no"}
    rows = {Path(line["key"]).stem for line in lines[:8]}
    images = open_data("sandbox:photo@select")
    assert {images.classes[images.labels[int(row)]] for row in rows} == {"mug"}


@pytest.mark.slow
def test_the_commands_of_the_guide(run: Run) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "find.md").read_text(encoding="utf-8")
    commands = page.split("```bash\n")[1].split("```")[0].splitlines()
    said = [run(*shlex.split(command)[1:]) for command in commands]
    assert len(said) == 2
    for line in page.split("```\n")[2].splitlines():
        assert line in said[0]
    accuracy = {
        (one.name, one.subject): (one.value, one.count)
        for one in Record.load(Path("forgotten") / "record.json").readings
        if not one.of
    }
    assert accuracy["forget accuracy", "after"] == (0, 34)
    assert accuracy["retain accuracy", "after"][0] > 0.93


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--name mug --data sandbox", "No model. Give one with --model"),
        ("--model sandbox --data sandbox", "No name. Give what to look for with --name"),
        ("--model sandbox --name mug", "No data. Give the images to look at with --data"),
        ("--model sandbox --name mug --data nowhere", "No data source 'nowhere'"),
        ("--model nothing/here --name mug --data sandbox --offline", "nothing/here"),
        ("--model sandbox --name mug --data sandbox --precision 1.5", "precision = 1.5 is not usable"),
        ("--model sandbox --name mug --data sandbox --limit 0", "limit = 0 is not usable"),
        ("--model sandbox --name mug --data sandbox --background some", "background = 'some' is not usable"),
        ("--model sandbox --name mug --data sandbox --background none", "nothing to tell it apart from"),
        ("--model sandbox --name mug --data sandbox --not Mug", "'Mug' is a name to look for"),
        ("--model sandbox --name mug --data sandbox --not missing.txt", "missing.txt"),
        ("--model sandbox --name mug --data sandbox --templates few", "Unknown template set 'few'"),
        ("--model sandbox --name mug|mug --data sandbox", "'mug' stands twice"),
        ("--model sandbox --name mug --data other.json", "other.json is a result of find"),
    ],
)
def test_wrong_input_is_one_line(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("{}")
    assert main(monkeypatch, "find", *words.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["other.json"]


def test_nothing_found_says_what_comes_next(
    photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["find", "--model", "sandbox", "--name", "castle", "--data", photos, *QUICK]
    assert main(monkeypatch, *words) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "shows 'castle' with an expected precision of 0.9" in shown.err
    assert list(tmp_path.iterdir()) == []
