"""Settings on the command line: single ones, ones of a table, and over those of a recipe."""

import pytest

from clip_unlearn.cli.flags import _over, settings_of
from clip_unlearn.errors import SettingError


def test_values_are_read_as_yaml_and_dots_name_tables():
    pairs = ["strength=0.9", "descent.steps=5", "descent.rate=1.0e-4", "floor=neutral"]
    assert settings_of(pairs) == {"strength": 0.9, "floor": "neutral", "descent": {"steps": 5, "rate": 1e-4}}


@pytest.mark.parametrize("pairs", [["descent=1", "descent.steps=2"], ["descent.steps=2", "descent.steps.more=1"]])
def test_a_value_and_a_table_of_one_name_are_refused(pairs):
    with pytest.raises(SettingError, match="in two ways"):
        settings_of(pairs)


def test_a_table_of_the_recipe_keeps_what_the_flags_do_not_name():
    old = {"strength": 0.5, "descent": {"steps": 100, "rate": 1e-3}}
    assert _over(old, {"descent": {"steps": 5}}) == {"strength": 0.5, "descent": {"steps": 5, "rate": 1e-3}}
    assert _over(old, {"strength": 0.1}) == {"strength": 0.1, "descent": {"steps": 100, "rate": 1e-3}}
    assert _over(old, {"descent": 3})["descent"] == 3
