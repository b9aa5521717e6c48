"""What a terminal shows."""

import pytest

from clip_unlearn.cli import console
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Reading


def reading(name: str, value: float, subject: str, of: str = "") -> Reading:
    """Return a reading with a fixed interval."""
    fields = {"name": name, "value": value, "low": value - 0.1, "high": value + 0.1, "count": 40}
    return Reading.model_validate({**fields, "better": "low", "subject": subject, "of": of})


def test_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings(
        "title",
        [
            reading("forget accuracy", 0.9, "before"),
            reading("forget accuracy", 0.1, "after"),
            reading("forget accuracy", -0.8, "change"),
            reading("class accuracy", 0.5, "after", "cat"),
        ],
    )
    shown = capsys.readouterr().out
    assert "90.0 % (80.0 to 100.0)  n=40" in shown
    assert "-80.0 pt (-90.0 to -70.0)" in shown
    assert "cat" not in shown


def test_one_model(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings("title", [reading("accuracy", 0.9, "after")])
    assert "before" not in capsys.readouterr().out


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error("first\n   second")
    assert capsys.readouterr().err == "error: first second\n"


def test_progress_is_silent_for_short_work(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress():
        report("embed", 1, 2)
    assert capsys.readouterr().err == ""


def test_progress_is_shown_for_long_work(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "QUIET_SECONDS", -1.0)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    with console.progress():
        report("embed", 1, 2)
        report("embed", 2, 2)
    assert "embed" in capsys.readouterr().err


def test_of_several_worst_wordings_the_worst_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings(
        "title",
        [reading("worst name accuracy", 0.7, "after", "mugs"), reading("worst name accuracy", 0.2, "after", "cats")],
    )
    assert "70.0 %" in capsys.readouterr().out


def test_an_area_is_no_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings(
        "title",
        [
            reading("over-forgetting AUC", 0.97, "before"),
            reading("over-forgetting AUC", 0.31, "after"),
            reading("over-forgetting AUC", -0.66, "change"),
            reading("over-forgetting AUC", 0.5, "after", "cat"),
        ],
    )
    shown = capsys.readouterr().out
    assert "0.31 (0.21 to 0.41)  n=40" in shown
    assert "-0.66 (-0.76 to -0.56)" in shown
    assert "%" not in shown
    assert "0.50" not in shown


def test_a_change_alone_is_shown_as_the_value(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings("title", [reading("predicted retain accuracy change", -0.01, "change")])
    assert "-1.0 pt (-11.0 to +9.0)" in capsys.readouterr().out


def test_what_a_method_measured_itself_stands_beside_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings(
        "title",
        [
            reading("synthetic minus real forget accuracy", -0.4, "change"),
            reading("synthetic forget accuracy", 0.05, "after", "mug"),
            reading("forget accuracy", 0.45, "after"),
            reading("forget accuracy", 1.0, "before"),
        ],
    )
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert next(line for line in lines if line.startswith("synthetic forget accuracy")).split()[3:5] == ["5.0", "%"]
    assert next(line for line in lines if line.startswith("synthetic minus")).endswith("-40.0 pt (-50.0 to -30.0)")


def test_the_average_score_is_no_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_readings("title", [reading("average score", 0.126, "after", "3 other data sets")])
    shown = capsys.readouterr().out
    assert "0.126 (0.026 to 0.226)" in shown
    assert "%" not in shown
