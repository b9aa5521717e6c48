"""Which attacks grades use is what was measured, and power is half of the original."""

import json
from pathlib import Path

import pytest

from clip_unlearn.core.attacks import QUALIFIED, WORST, has_power
from clip_unlearn.core.grades import MECHANISMS, WITHOUT_CONTROL
from clip_unlearn.core.record import Reading
from clip_unlearn.core.validation import Validation

LAB = Path(__file__).parents[3] / "benchmarks" / "results" / "lab.json"


def test_what_qualifies_is_what_was_measured() -> None:
    rows = [Validation(**row) for row in json.loads(LAB.read_text(encoding="utf-8"))["rows"]]
    assert {row.reading.removeprefix(WORST) for row in rows if row.qualifies} >= QUALIFIED
    assert {*MECHANISMS, *WITHOUT_CONTROL} <= QUALIFIED
    assert any(not row.qualifies for row in rows)  # A validation that everything passes validates nothing.


@pytest.mark.parametrize(("before", "control", "power"), [(0.8, 0.4, True), (0.8, 0.39, False), (0.0, 0.5, False)])
def test_power(before: float, control: float, power: bool) -> None:
    fields = {"name": "a", "low": 0, "high": 1, "count": 10, "better": "low"}
    assert has_power(Reading(value=before, **fields), Reading(value=control, **fields)) is power
