"""The lab: what an audit is worth, counted by hand, and a tiny population from first weights to a row."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from clip_unlearn.core.record import Better, Reading, Subject
from clip_unlearn.core.validation import MODELS, Separation, Validation
from clip_unlearn.errors import SettingError, UnknownNameError
from clip_unlearn.models.open import open_model
from clip_unlearn.runs import lab
from clip_unlearn.runs.lab_table import validations
from clip_unlearn.sandbox.training import population
from clip_unlearn.sandbox.training.population import SORTS


def reading(value: float, subject: Subject = "after", *, name: str = "worst trick accuracy", better: Better = "low"):
    return Reading(name=name, value=value, low=0, high=min(1, value + 0.05), count=100, better=better, subject=subject)


def trio(knowing: Sequence[Reading], unseen: Sequence[Reading], word: Sequence[Reading]) -> lab.Measured:
    return {"knowing": tuple(knowing), "unseen": tuple(unseen), "word": tuple(word)}


def test_a_row_counted_by_hand() -> None:
    """Of four pairs with the word alone the knowing one is higher in two and equal in one."""
    found = [
        trio([reading(0.9)], [reading(0.02), reading(0.6, "control")], [reading(0.95)]),
        trio([reading(0.8)], [reading(0.1), reading(0.4, "control")], [reading(0.8)]),
    ]
    (row,) = validations({"trick": found})
    assert (row.audit, row.reading, row.count) == ("trick", "worst trick accuracy", 2)
    assert (row.knowing, row.hidden) == pytest.approx((0.85, 0.5))
    assert (row.unseen.mean, row.unseen.auc, row.unseen.alarms) == pytest.approx((0.06, 1.0, 1))
    assert (row.word.auc, row.word.alarms) == (0.375, 2)
    assert row.word.low < 0.375 < row.word.high
    assert row.unseen.low < 1


def test_where_there_is_nothing_to_attack_the_hidden_ones_count() -> None:
    found = [trio([], [reading(0.3), reading(0.2, "control")], [reading(0.1)])] * 2
    (row,) = validations({"trick": found})
    assert (row.knowing, row.count) == (None, 2)
    assert (row.unseen.auc, row.word.auc) == (0, 1)


def test_a_high_reading_that_is_wished_says_the_class_is_gone() -> None:
    names = {"name": "rank", "better": "high"}
    (row,) = validations({"trick": [trio([reading(1, **names)], [reading(9, **names)], [reading(5, **names)])]})
    assert (row.unseen.auc, row.unseen.alarms) == (1.0, None)


def test_attempts_beside_the_worst_and_readings_of_others_have_no_row() -> None:
    every = [reading(0.5), reading(0.4, name="trick accuracy"), reading(0.9, name="retain accuracy", better="high")]
    assert [row.reading for row in validations({"trick": [trio(every, every, every)]})] == ["worst trick accuracy"]


@pytest.mark.parametrize(("area", "count", "qualifies"), [(0.95, MODELS, True), (0.94, MODELS, False), (1.0, 9, False)])
def test_what_qualifies(area: float, count: int, qualifies: bool) -> None:
    good = Separation(mean=0, auc=1, low=0.8, high=1, count=MODELS)
    other = Separation(mean=0, auc=area, low=0.5, high=1, count=MODELS)
    row = Validation(audit="a", reading="r", knowing=1, hidden=None, count=count, unseen=good, word=other)
    assert row.qualifies is qualifies


def test_the_population_is_the_same_however_large() -> None:
    assert population.members(3)[: len(population.members(2))] == population.members(2)
    assert len(lab.trios(6)) == 18
    assert {one.base for one in population.members(2) if one.class_name == "cat"} == {"oracle-cat-0", "oracle-cat-1"}


def test_words_and_pictures_of_each_sort() -> None:
    words = {sort: lab.Trio(class_name="mug", seed=0).member(sort).words for sort in SORTS}
    assert words["knowing"] == words["word"]
    assert len(words["unseen"]) == len(words["word"]) - 1


def test_other_code_is_measured_anew(tmp_path: Path) -> None:
    for name, text in {"one": "from audit._a import x", "_a": "from audit._b import y", "_b": "", "_c": ""}.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert [path.stem for path in lab._sources(tmp_path / "one.py")] == ["_a", "_b", "one"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the population three models, hardly trained, in a folder of their own."""
    monkeypatch.setattr(population, "ORACLE_CLASSES", ("mug",))
    monkeypatch.setattr(population, "_STEPS", 2)
    monkeypatch.setattr(population, "PICTURES", 2)
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path))
    return tmp_path


def test_a_tiny_population_from_first_weights_to_a_row(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab.untrained(1) == 3
    found = lab.measure(["module_revert"], seeds=1)
    assert lab.untrained(1) == 0
    (row,) = validations(found)
    assert row.reading == "worst module revert accuracy"
    assert row.knowing is None  # Nothing was changed, so that there is nothing to put back.
    assert row.hidden is not None
    known, never = (open_model(lab.lab_folder() / "models" / f"{sort}-mug-0") for sort in ("knowing", "unseen"))
    assert known.fingerprint != never.fingerprint

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(lab, "_readings", fail)
    assert lab.measure(["module_revert"], seeds=1) == found
    monkeypatch.setattr(lab, "_sources", lambda own: [own])
    with pytest.raises(AssertionError, match="measured again"):
        lab.measure(["module_revert"], seeds=1)


def test_what_cannot_be_measured_is_refused_before_anything_is_trained(tiny: Path) -> None:
    with pytest.raises(SettingError, match="needs models"):
        lab.measure(["wordings"], seeds=0)
    with pytest.raises(SettingError, match="at least one process"):
        lab.measure(["wordings"], jobs=0)
    with pytest.raises(UnknownNameError, match="wordings"):
        lab.measure(["wording"], seeds=1)
    assert list(tiny.iterdir()) == []
