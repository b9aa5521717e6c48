"""One line per wrong setting: where, what, and what would be right."""

import pydantic
import pytest
import yaml

from clip_unlearn.core.config import Config, build
from clip_unlearn.errors import SettingError


class Inner(Config):
    width: int = pydantic.Field(default=1, ge=1)
    """Width."""


class Pair(Config):
    first: int = 1
    second: int = 2


class Outer(Config):
    name: str
    """Name."""

    inner: Inner = Inner()
    steps: tuple[Inner, ...] = ()
    rate: float = 1e-3


def message(values: dict[str, object]) -> str:
    with pytest.raises(SettingError) as caught:
        build(Outer, values, where="recipe.yml")
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_good_values_become_settings():
    assert build(Outer, {"name": "x", "inner": {"width": 3}}, where="") == Outer(name="x", inner=Inner(width=3))


def test_an_unknown_setting_gets_the_nearest_and_all():
    assert message({"name": "x", "rat": 1}) == (
        "recipe.yml: unknown setting 'rat'. Did you mean 'rate'? Settings: name, inner, steps, rate."
    )


@pytest.mark.parametrize(("values", "name"), [({"inner": {"with": 2}}, "inner.with")])
def test_an_unknown_inner_setting_gets_the_inner_names(values, name):
    text = message({"name": "x", **values})
    assert text == f"recipe.yml: unknown setting '{name}'. Did you mean 'width'? Settings: width."


def test_an_unknown_setting_of_a_list_entry_is_placed():
    text = message({"name": "x", "steps": [{}, {"width": 1, "zzz": 0}]})
    assert text.startswith("recipe.yml: unknown setting 'steps.1.zzz'. Settings: ")


def test_a_missing_setting():
    assert message({}) == "recipe.yml: setting 'name' is missing. Add it."


@pytest.mark.parametrize("value", [0, "wide", None, [1]])
def test_a_value_out_of_range_or_of_another_kind(value):
    text = message({"name": "x", "inner": {"width": value}})
    assert text.startswith(f"recipe.yml: inner.width = {value!r} is not usable: ")
    assert text.endswith(". Change it.")


def test_yaml_reads_small_numbers_as_text_and_settings_take_them():
    assert build(Outer, yaml.safe_load("{name: x, rate: 1e-6}"), where="").rate == 1e-6


def test_settings_are_frozen():
    with pytest.raises(pydantic.ValidationError):
        Inner().width = 3


def test_texts_under_fields_become_their_descriptions():
    assert Inner.model_fields["width"].description == "Width."


class Slow(Config):
    inner: Inner = Inner(width=5)
    pace: Pair = Pair(first=3, second=4)


def test_a_table_given_in_part_keeps_the_rest_of_the_settings_own_default():
    built = build(Slow, {"pace": {"second": 7}}, where="")
    assert (built.pace.first, built.pace.second) == (3, 7)
    assert built.inner.width == 5


def test_a_table_in_part_is_checked_as_a_whole():
    with pytest.raises(SettingError, match=r"pace\.third"):
        build(Slow, {"pace": {"third": 7}}, where="x")
