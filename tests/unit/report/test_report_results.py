import math

import pytest
from report_records import CLASSES, FORGET, RETAIN, reading, record, trio

from clip_unlearn.core.record import Reading
from clip_unlearn.report.comparisons import compare
from clip_unlearn.report.results import CHART_LIMIT, results
from clip_unlearn.report.summary import to_markdown


def test_readings_of_one_name_stand_side_by_side():
    (row,) = compare(FORGET)
    assert (row.before, row.after, row.change) == FORGET


def test_a_reading_that_stands_twice_gets_its_own_row():
    first, second = compare([*FORGET, *FORGET])
    assert first == second


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-1, -0.9, "low", "as wanted"),
        (-1, -0.9, "high", "worse"),
        (0.1, 0.2, "high", "as wanted"),
        (0.1, 0.2, "low", "worse"),
        (-0.1, 0.1, "high", "no clear change"),
        (0.1, 0.2, "neither", ""),
        (math.nan, math.nan, "high", ""),
    ],
)
def test_verdicts_follow_the_interval_and_the_wished_direction(low, high, better, verdict):
    (row,) = compare([reading("x", 0.0, low, high, better=better, subject="change")])
    assert row.verdict == verdict


def test_a_single_model_has_no_verdict():
    (row,) = compare([reading("x", 0.5, 0.4, 0.6)])
    assert row.verdict == ""


@pytest.mark.parametrize(
    ("readings", "unit"),
    [
        ([reading("image drift", 0.99, 0.98, 1.0)], "cosine"),
        ([reading("forget accuracy", 0.5, 0.4, 0.6)], "percent"),
        ([reading("rank", 4.0, 3.0, 5.0)], "plain"),
        ([reading("forget mean reciprocal rank", 0.93, 0.84, 1.03)], "percent"),
        ([reading("entropy", 0.93, 0.84, 1.03)], "plain"),
        ([reading("x", -0.4, -0.5, -0.3, subject="change")], "percent"),
        ([reading("x", -4.0, -5.0, -3.0, subject="change")], "plain"),
    ],
)
def test_units_follow_name_and_range(readings, unit):
    assert compare(readings)[0].unit == unit


def test_shift_is_taken_from_both_models_where_no_change_was_measured():
    before, after = reading("x", 0.9, 0, 1, subject="before"), reading("x", 0.4, 0, 1)
    assert compare([before, after])[0].shift == pytest.approx(-0.5)
    assert compare([after])[0].shift == 0.0
    assert compare([before, reading("x", math.nan, 0, 1)])[0].shift == 0.0


def test_forgotten_classes_come_first_then_the_most_harmed():
    rows = results(record(*CLASSES)).classes
    assert [(row.label, row.forgotten) for row in rows] == [("Mug", True), ("bowl", False), ("hat", False)]


def test_known_totals_come_in_a_fixed_order_and_unknown_ones_last():
    rows = results(record(reading("novel score", 0.5, 0.4, 0.6), *RETAIN, *FORGET)).totals
    assert [row.label for row in rows] == ["Forget accuracy", "Retain accuracy", "Novel score"]


def test_the_worst_wording_is_a_total_and_names_the_wording():
    worst = reading("worst name accuracy", 0.2, 0.1, 0.3, of="cup (synonym)", better="low")
    found = results(record(worst))
    assert found.totals[0].label == "Worst name accuracy: cup (synonym)"
    assert not found.wordings


def test_the_worst_wordings_of_both_models_are_compared_though_they_differ():
    common = {"better": "low", "name": "worst name accuracy"}
    readings = (
        reading(value=0.9, low=0.8, high=1, subject="before", of="mug (name)", **common),
        reading(value=0.1, low=0, high=0.2, of="cup (synonym)", **common),
        reading(value=0.8, low=0.7, high=1, subject="before", of="bowl (name)", **common),
        reading(value=0.3, low=0.2, high=0.4, of="dish (synonym)", **common),
    )
    found = results(record(*readings))
    assert [row.label.partition(": ")[2] for row in found.totals] == ["dish (synonym)", "cup (synonym)"]
    assert [str(row.before) for row in found.totals] == ["80.0 % (70.0-100.0)", "90.0 % (80.0-100.0)"]
    assert found.tiles == found.totals[:1]


def test_wordings_come_with_the_one_that_still_works_first():
    names = [reading("name accuracy", value, 0, 1, of=of) for of, value in (("a", 0.1), ("b", 0.4), ("c", 0.2))]
    assert [row.label for row in results(record(*names)).wordings] == ["b", "c", "a"]


def test_no_reading_is_left_out():
    strange = [reading(f"kind {index}", 0.5, 0.4, 0.6, of="thing") for index in range(5)]
    domains = trio("domain forget accuracy", (1, 0.9, 1), (0, 0, 0.1), (-1, -1, -0.8), better="low", of="photo")
    found = results(record(*strange, *domains, *FORGET, *CLASSES, reading("name accuracy", 0.1, 0, 1, of="cup")))
    tables = (found.totals, found.classes, found.wordings, *(group.rows for group in found.groups))
    assert sum(len(row.comparison.readings) for rows in tables for row in rows) == 5 + 3 + 3 + 9 + 1
    assert found.groups[0].title == "Domain forget accuracy"


@pytest.mark.parametrize(("forgotten", "others"), [(1, 199), (50, 150), (100, 0), (40, 3), (3, 4)])
def test_the_chart_is_limited_and_keeps_both_kinds(forgotten, others):
    forget = tuple(f"gone {index}" for index in range(forgotten))
    kept = tuple(f"kept {index}" for index in range(others))
    chart = results(
        record(*(reading("class accuracy", 0.5, 0, 1, of=name) for name in forget + kept), forget=forget)
    ).chart
    assert len(chart) == min(CHART_LIMIT, forgotten + others)
    assert len({row.forgotten for row in chart}) == (2 if others else 1)


def test_the_average_score_is_a_total_that_says_over_what_it_is_taken():
    found = results(record(*FORGET, reading("average score", 0.126, 0.1, 0.2, of="3 other data sets", better="low")))
    row = found.total("average score")
    assert row.label == "Average score: 3 other data sets"
    assert (row.after.value, row.after.interval) == ("0.1260", "(0.1000-0.2000)")
    assert found.groups == ()


def test_what_a_method_measured_itself_stands_after_what_was_measured():
    apart = reading("synthetic minus real forget accuracy", -0.4, -0.5, -0.3, better="neither", subject="change")
    own = reading("synthetic forget accuracy", 0.05, 0.0, 0.1, better="low", of="mug")
    found = results(record(apart, own, *RETAIN, *FORGET))
    assert [row.comparison.name for row in found.totals] == ["forget accuracy", own.name, apart.name, "retain accuracy"]
    assert found.total(apart.name).change.value == "\N{MINUS SIGN}40.0 points"
    assert found.total(apart.name).verdict == ""
    assert found.total(own.name).label == "Synthetic forget accuracy: mug"
    assert found.total(own.name).hint
    assert found.groups == ()


def attack(control: float, after: float, name: str = "worst refit accuracy") -> tuple[Reading, ...]:
    """Return the readings of one attack on a class that the original recognised in 80 %."""
    common = {"name": name, "low": 0.0, "high": 1.0, "better": "low"}
    return (
        reading(value=0.8, subject="before", of="without the attack", **common),
        reading(value=control, subject="control", of="a", **common),
        reading(value=after, of="b", **common),
    )


@pytest.mark.parametrize(("control", "power"), [(0.4, True), (0.39, False)])
def test_an_attack_has_power_where_it_brings_back_half(control: float, power: bool) -> None:
    (row,) = results(record(*attack(control, 0.1))).attacks
    assert row.label == "Worst refit accuracy: b"
    assert row.comparison.power is power
    assert [str(cell).split(" (")[0] for cell in (row.before, row.control, row.after)] == [
        "80.0 %",
        f"{100 * control:.1f} %",
        "10.0 %",
    ]


def test_attacks_are_no_totals_and_the_strongest_comes_first() -> None:
    found = results(record(*attack(0.8, 0.1), *attack(0.8, 0.7, "worst revert accuracy")))
    assert [row.label for row in found.attacks] == ["Worst revert accuracy: b", "Worst refit accuracy: b"]
    assert not found.totals
    assert not found.groups


def test_an_original_that_knew_nothing_gives_no_power() -> None:
    before = reading("worst refit accuracy", 0.0, 0, 1, subject="before")
    control, after = (reading("worst refit accuracy", 0.0, 0, 1, subject=subject) for subject in ("control", "after"))
    (row,) = results(record(before, control, after)).attacks
    assert not row.comparison.power


def test_forms_of_an_attack_stand_in_a_table_with_their_control() -> None:
    forms = [reading("refit accuracy", 0.2, 0, 1, of="a", subject=subject) for subject in ("control", "after")]
    (group,) = results(record(*forms)).groups
    assert group.controlled
    page = to_markdown(record(*forms, *attack(0.2, 0.1)))
    assert "| About | Before | After | Change | Control | n |" in page
    assert "no: shows nothing" in page
    assert "Control" not in to_markdown(record(*FORGET))


def test_models_that_never_saw_it_stand_in_a_table_of_their_own() -> None:
    """The original stands with what the attack brings back of the control, which is more than it has by itself."""
    attacked = attack(0.9, 0.3)
    never = [
        reading("worst refit accuracy", value, 0, 1, better="low", subject="reference", of=f"oracle-{value}")
        for value in (0.1, 0.2)
    ]
    ratio = reading("recovery ratio", 0.2, 0.05, 0.35, better="low", of="refit accuracy")
    found = results(record(*attacked, *never, ratio))
    (row,) = found.recovered
    assert row.label == "Refit accuracy"
    assert [str(cell).split(" (")[0] for cell in (row.after, row.held, row.ratio)] == ["30.0 %", "90.0 %", "0.20"]
    assert [cell.value for cell in row.never] == ["10.0 %", "20.0 %"]
    assert (len(found.attacks), found.groups, found.totals) == (1, (), ())
    page = to_markdown(record(*attacked, *never, ratio))
    assert "## Beside models that never saw it" in page
    assert "10.0 % (0.0-100.0); 20.0 % (0.0-100.0)" in page.replace("\N{EN DASH}", "-")
