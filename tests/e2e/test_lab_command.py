"""`lab` as a user sees it: a table, JSON, and refusals; the measuring itself is tested where it is done."""

import json
from collections.abc import Callable

import pytest
import rich.console  # noqa: F401  It keeps the environment of its first import, which must not be a test's.
from in_process import main

from clip_unlearn.core.distance import Distance, Estimate
from clip_unlearn.core.record import Reading
from clip_unlearn.runs import lab, lab_distance

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; return exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(monkeypatch, "lab", *arguments)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def reading(value: float) -> Reading:
    return Reading(
        name="worst image refit accuracy", value=value, low=0, high=min(1, value + 0.04), count=100, better="low"
    )


def trio(knowing: float, never: float) -> lab.Measured:
    return {"knowing": (reading(knowing),), "unseen": (reading(never),), "word": (reading(never + 0.1),)}


def test_a_table_of_what_audits_are_worth(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def measure(names: list[str], *, seeds: int, jobs: int) -> dict[str, tuple[lab.Measured, ...]]:
        asked.append((tuple(names), seeds, jobs))
        return {"image_refit": tuple(trio(0.9, place / 100) for place in range(10))}

    monkeypatch.setattr(lab, "measure", measure)
    monkeypatch.setattr(lab, "untrained", lambda seeds: 7 * seeds)
    code, shown, told = run("image_refit", "--seeds", "4", "--jobs", "2")
    assert (code, asked) == (0, [(("image_refit",), 4, 2)])
    assert told.startswith("28 models to train, about 7 minutes")
    assert "10 of each sort" in shown
    assert "qualifies" in shown
    found = json.loads(run("image_refit", "--json")[1])
    assert (found[0]["unseen"]["auc"], found[0]["unseen"]["alarms"], found[0]["word"]["alarms"]) == (1.0, 3, 10)
    assert found[0]["qualifies"] is True


def test_a_method_beside_models_that_never_saw_the_class(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    half = Estimate(value=0.5, low=0.4, high=0.6)
    kinds = ("kolmogorov_smirnov", "tug_of_war", "unlearning_score")
    fields = {name: half for kind in kinds for name in (kind, f"{kind}_floor")}
    every = tuple(Distance(sort=sort, count=18, likelihood_ratio=half, **fields) for sort in ("unseen", "word"))
    monkeypatch.setattr(lab_distance, "distances", lambda method, *, seeds, jobs: every)
    monkeypatch.setattr(lab, "untrained", lambda _: 0)
    code, shown, told = run("--method", "redirect")
    assert (code, told) == (0, "")
    assert "redirect on 18 models" in shown
    assert shown.count("0.50 (0.40 to 0.60)") == 14
    assert "what F5 needs" in shown
    assert "indistinguishable" not in shown
    found = json.loads(run("--method", "redirect", "--json")[1])
    assert [one["sort"] for one in found] == ["unseen", "word"]
    assert [line["passed"] for line in found[0]["lines"]] == [True, True, False, True]  # ToW is far below 0.95
    near = {**fields, "tug_of_war": Estimate(value=0.98, low=0.96, high=1)}
    like = tuple(Distance(sort=sort, count=18, likelihood_ratio=half, **near) for sort in ("unseen", "word"))
    monkeypatch.setattr(lab_distance, "distances", lambda method, *, seeds, jobs: like)
    assert "F5: indistinguishable from retraining in these tests" in run("--method", "redirect")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("image_refit", "--method", "redirect"), "two questions"),
        (("--method", "redirekt"), "Did you mean"),
        (("image_refi",), "Unknown suite or audit 'image_refi'"),
        (("image_refit", "--seeds", "0"), "needs models"),
        (("image_refit", "--jobs", "0"), "at least one process"),
        (("--method", "redirect", "--seeds", "2"), "at least 3 models"),
    ],
)
def test_one_line_and_nothing_trained(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, shown, told = run(*arguments)
    assert (code, shown) == (2, "")
    assert said in told.splitlines()[-1]
    assert told.splitlines()[-1].startswith("error: ")


def test_an_audit_that_never_taught_models_do_not_have(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "untrained", lambda _: 3)
    monkeypatch.setattr(lab, "measure", lambda names, *, seeds, jobs: {name: () for name in names})
    code, shown, told = run("recipe_inversion")
    assert (code, shown) == (2, "")
    assert "recipe_inversion: no figure of these is defined" in told


def test_a_misspelt_name_is_refused_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "untrained", lambda _: 3)
    for asked in (("image_refti",), ("--method", "redirekt")):
        code, shown, told = run(*asked)
        assert (code, shown) == (2, "")
        assert "to train" not in told
