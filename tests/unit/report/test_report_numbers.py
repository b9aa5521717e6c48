import math

import pytest
from report_records import reading

from clip_unlearn.report import numbers


def test_a_share_is_a_percentage_with_interval_and_count():
    value = reading("forget accuracy", 0.0, 0.0, 0.036, count=102)
    assert numbers.level_line(value, "percent") == "0.0 % (0.0-3.6), n = 102"


def test_a_count_has_thousands_apart():
    assert numbers.level_line(reading("x", 0.5, 0.4, 0.6, count=2346), "percent").endswith("n = 2,346")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.98, "percent", "98.0 %"),
        (-0.00001, "percent", "0.0 %"),
        (0.99712, "cosine", "0.9971"),
        (-0.25, "cosine", "−0.2500"),
        (4.1234567, "plain", "4.123"),
        (math.nan, "percent", "not defined"),
        (math.inf, "plain", "not defined"),
    ],
)
def test_levels(value, unit, text):
    assert numbers.level(reading("x", value, 0, 1), unit) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (-0.98, "percent", "−98.0 points"),
        (0.012, "percent", "+1.2 points"),
        (0.0, "percent", "0.0 points"),
        (-0.0001, "percent", "0.0 points"),
        (1.5, "plain", "+1.5"),
        (math.nan, "percent", "not defined"),
    ],
)
def test_changes_are_signed(value, unit, text):
    assert numbers.change(reading("x", value, -1, 1), unit) == text


def test_intervals_with_a_sign_use_words():
    assert numbers.change_interval(reading("x", 0.0, -0.01, 0.02), "percent") == "(−1.0 to +2.0)"
    assert numbers.level_interval(reading("x", 0.0, -0.5, 0.5), "cosine") == "(−0.5000 to 0.5000)"


def test_intervals_of_shares_end_where_shares_end():
    wide = reading("forget mean reciprocal rank", 0.93, -0.02, 1.03)
    assert numbers.level_interval(wide, "percent") == "(0.0-100.0)"
    assert numbers.level_interval(wide, "plain") == "(−0.02 to 1.03)"
    assert numbers.change_interval(reading("x", -0.9, -1.2, 0.1), "percent") == "(−100.0 to +10.0)"


def test_an_interval_that_is_not_a_number_is_left_out():
    value = reading("x", 0.5, math.nan, math.inf, count=3)
    assert numbers.level_line(value, "percent") == "50.0 %, n = 3"
    assert numbers.change_interval(value, "percent") == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.0, "< 0.0001"),
        (0.00027, "0.00027"),
        (0.039, "0.039"),
        (0.62, "0.62"),
        (1.0, "1.00"),
    ],
)
def test_probabilities(value, text):
    assert numbers.probability(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.42, "0.42 s"), (31.2, "31 s"), (725.0, "12 min 5 s"), (math.nan, "not defined")]
)
def test_durations(value, text):
    assert numbers.seconds(value) == text
