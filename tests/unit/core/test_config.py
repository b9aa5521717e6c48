"""One line per wrong setting: where, what, and what would be right."""

import pydantic
import pytest
import yaml

from clip_unlearn.core.config import Config, build
from clip_unlearn.errors import SettingError


class Inner(Config):
    width: int = pydantic.Field(default=1, ge=1)
    """Width."""


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
