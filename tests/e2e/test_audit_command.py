"""`audit` as a user runs it: on a patch of the embedded world, with grade, exit codes, and nothing half written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import rich.console  # noqa: F401  It keeps the environment of its first import, which must not be a test's.
from in_process import main
from patterns import PATTERNS, draw

from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Record
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.audit import audit
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.runs.run import make_patch
from clip_unlearn.sandbox.classes import CLASS_NAMES

Run = Callable[..., tuple[int, str, str]]
DATA = ("--data", "sandbox:photo")


@pytest.fixture(scope="module")
def patch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a patch that hides the mug in the last image layer."""
    request = Request(forget=(Concept(name="mug"),), retain=tuple(name for name in CLASS_NAMES if name != "mug"))
    folder = tmp_path_factory.mktemp("patch") / "patch"
    make_patch(open_model("sandbox"), request, Redirect()).save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in an empty folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(monkeypatch, *arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_an_edit_of_the_last_layer_is_found_out(run: Run, patch: Path, tmp_path: Path) -> None:
    names = "zero_shot,wordings,vocabulary,image_refit,module_revert"
    code, shown, _ = run("audit", "--patch", str(patch), *DATA, "--suite", names, "--out", "audit", "--require", "F1")
    record = Record.load(tmp_path / "audit" / "record.json")
    assert record.grade is not None
    assert record.grade.grade == "inconclusive"  # 34 photos are too few
    assert code == 3
    assert "grade    inconclusive" in shown
    assert "ceiling  F2: only the last layer was changed" in shown
    assert record.seconds.keys() == {"embed", *names.split(",")}
    back = next(one for one in record.readings if (one.name, one.subject) == ("worst image refit accuracy", "after"))
    assert back.value > 0.9
    page = (tmp_path / "audit" / "summary.md").read_text()
    assert "**Grade inconclusive:" in page
    assert "## Attacks" in page
    assert "Grade inconclusive" in (tmp_path / "audit" / "summary.html").read_text()


def test_the_grade_is_at_the_top_of_the_json(run: Run, patch: Path) -> None:
    code, shown, _ = run("audit", "--patch", str(patch), "--data", "sandbox", "--suite", "zero_shot", "--json")
    assert code == 0
    found = json.loads(shown)
    assert (found["grade"]["grade"], found["grade"]["words"]) == ("F1", "suppressed for the tested prompt")
    assert {line["what"]: line["why"] for line in found["grade"]["lines"]}["attack: image refit"] == "was not made"


def test_beside_a_model_that_never_saw_the_class(run: Run, patch: Path, tmp_path: Path) -> None:
    """The edit sits in the last layer, and fitting that again brings back far more than such a model has."""
    asked = ("--suite", "prompt_ensemble,module_revert", "--reference", "oracle-mug-0", "--reference", "oracle-mug-1")
    code, shown, _ = run("audit", "--patch", str(patch), "--data", "sandbox", *asked, "--out", "audit")
    record = Record.load(tmp_path / "audit" / "record.json")
    assert code == 0
    assert [one.where for one in record.references] == ["oracle-mug-0", "oracle-mug-1"]
    assert all(one.digest for one in record.references)
    ratios = {one.of: one for one in record.readings if one.name == "recovery ratio"}
    assert ratios.keys() == {"ensemble accuracy", "module revert accuracy"}
    assert ratios["module revert accuracy"].low > 0.9
    assert ratios["ensemble accuracy"].high < 0.1
    assert "recovery ratio: 0 as never seen, 1 as the original" in shown
    assert "Beside models that never saw it" in (tmp_path / "audit" / "summary.html").read_text()


def test_beside_classes_that_are_new_to_it(run: Run, patch: Path, tmp_path: Path) -> None:
    """Five images bring the mug back whole, for it is there below the last layer; a pattern is learned less well."""
    draw(tmp_path / "new", 12)
    asked = ("--suite", "prototype", "--novel", "new")
    code, shown, _ = run("audit", "--patch", str(patch), *DATA, *asked, "--out", "audit")
    record = Record.load(tmp_path / "audit" / "record.json")
    assert code == 0
    assert record.novel is not None
    assert (record.novel.where, record.novel.count, record.references) == ("new", 12 * len(PATTERNS), ())
    known = [one for one in record.readings if one.name == "novel class accuracy"]
    assert sorted(one.of for one in known) == sorted(f"novel class {name}" for name in PATTERNS)
    beside = [one for one in record.readings if one.subject == "reference" and one not in known]
    assert {one.name for one in beside} == {f"{shots}-shot prototype accuracy" for shots in (1, 5)}
    ratios = {one.of: one for one in record.readings if one.name == "recovery ratio"}
    assert ratios["5-shot prototype accuracy"].low > 0.8
    assert "6 references" in ratios["5-shot prototype accuracy"].interval
    assert "recovery ratio: 0 as never seen, 1 as the original" in shown
    assert "Classes that are new to it" in (tmp_path / "audit" / "summary.html").read_text()
    assert (
        "the same attack on classes that the original does not know" in (tmp_path / "audit" / "summary.md").read_text()
    )


def test_a_reference_leaves_no_place_for_new_classes(run: Run, patch: Path, tmp_path: Path) -> None:
    draw(tmp_path / "new", 4, names=tuple(PATTERNS)[:4])
    asked = ("audit", "--patch", str(patch), *DATA, "--suite", "prototype", "--novel", "new")
    for more, message in (
        ((), "new has images of 4 classes. Give 5 or more"),
        (("--reference", "oracle-mug-0"), "Give --reference or --novel, not both"),
    ):
        code, _, error = run(*asked, *more)
        assert (code, error.count("\n")) == (2, 1)
        assert message in error


def test_a_budget_leaves_out_what_does_not_fit(run: Run, patch: Path, tmp_path: Path) -> None:
    asked = ("--patch", str(patch), "--data", "sandbox:photo", "--suite", "fine_tuning,vocabulary")
    code, shown, told = run("audit", *asked, "--budget", "0.001s", "--out", "none")
    assert code == 0
    record = Record.load(tmp_path / "none" / "record.json")
    assert not record.readings
    assert [one.probe for one in record.skipped] == ["fine_tuning", "vocabulary"]
    assert "of the budget are left" in record.skipped[0].reason
    assert "not made: vocabulary: it would take about" in shown
    assert told.startswith("0 audits, about ")
    assert run("audit", *asked, "--budget", "1 week")[0] == 2
    assert "--budget 1 week: no duration" in run("audit", *asked, "--budget", "1 week")[2]


def test_a_grade_that_is_reached_ends_well(run: Run, patch: Path) -> None:
    suite = ("--data", "sandbox", "--suite", "zero_shot")
    assert run("audit", "--patch", str(patch), *suite, "--require", "F1")[0] == 0
    assert run("audit", "--patch", str(patch), *suite, "--require", "F2")[0] == 3


def test_an_audit_that_is_not_defined_here_says_why(run: Run, patch: Path, tmp_path: Path) -> None:
    """The other images are of this class alone."""
    from clip_unlearn.data.open import open_data

    pictures = open_data("sandbox:photo@select")
    folder = tmp_path / "mugs" / "mug"
    folder.mkdir(parents=True)
    row = pictures.labels.index(pictures.class_index("mug"))
    pictures.picture(row).save(folder / "one.png")
    code, shown, _ = run(
        "audit", "--patch", str(patch), *DATA, "--suite", "image_refit", "--support", str(tmp_path / "mugs")
    )
    assert code == 0
    assert "not made: image_refit:" in shown
    assert "no image of another class" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--suite", "quik"), "Unknown suite or audit 'quik'. Did you mean 'quick'?"),
        (("--suite", "quick,rounding"), "is no list of audits"),
        (("--suite", " , "), "is no list of audits"),
        (("--support", "nowhere"), "No data source 'nowhere'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    run: Run, patch: Path, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    code, shown, error = run("audit", "--patch", str(patch), *DATA, *arguments, "--out", "audit")
    assert (code, shown) == (2, "")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "audit").exists()


def test_results_are_not_written_over(run: Run, patch: Path, tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "mine.txt").write_text("kept")
    code, _, error = run("audit", "--patch", str(patch), *DATA, "--suite", "zero_shot", "--out", "audit")
    assert (code, error.count("\n")) == (2, 1)
    assert [path.name for path in (tmp_path / "audit").iterdir()] == ["mine.txt"]


def test_a_patch_that_no_run_has_made(patch: Path) -> None:
    from clip_unlearn.errors import SettingError

    bare = Patch(deltas=Patch.from_pretrained(patch).deltas)
    with pytest.raises(SettingError, match="does not say what it was to forget"):
        audit(open_model("sandbox"), bare, DataChoice(path="sandbox:photo"))


def test_records_of_two_methods_are_compared(run: Run, tmp_path: Path) -> None:
    for method in ("redirect", "project"):
        code, _, error = run(
            "forget", "--model", "sandbox", "--forget", "mug", *DATA, "--method", method, "--out", method
        )
        assert code == 0, error
    code, shown, _ = run("compare", "redirect", "project/record.json")
    assert code == 0
    assert "project/record.json less redirect" in shown
    assert "p of all" in shown
    found = json.loads(run("compare", "redirect", "project", "--json")[1])
    named = {one["name"]: one["unit"] for one in found[0]["differences"]}
    assert {"forget accuracy", "worst name accuracy"} < named.keys()
    assert named["mean accuracy of the other classes"] == "27 classes, paired"
    code, shown, error = run("compare", "redirect")
    assert (code, shown, error.count("\n")) == (2, "", 1)
    assert run("compare", "redirect", "nowhere")[0] == 2
