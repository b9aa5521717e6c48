"""Which setting a budget has to choose: read from recipes, and what is refused."""

from typing import Any

import pytest

from clip_unlearn.core.config import build
from clip_unlearn.errors import SettingError
from clip_unlearn.methods.project import Project
from clip_unlearn.runs.plan import make_method
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.runs.search import Search, find_search


def recipe(**values: Any) -> Recipe:
    given = {"model": "sandbox", "forget": ["mug"], "method": {"name": "project", "strength": "auto"}, **values}
    return build(Recipe, given, where="recipe")


def found(**values: Any) -> Search:
    search = find_search(recipe(**values))
    assert search is not None
    return search


def test_without_an_open_setting_there_is_nothing_to_choose() -> None:
    assert find_search(recipe(method="project")) is None


def test_what_there_is_to_choose() -> None:
    search = found(method={"name": "project", "strength": "auto", "pool": "each"}, budget=2.5)
    assert (search.setting, search.gentlest, search.strongest, search.budget) == ("strength", 0.01, 1.0, 2.5)
    assert search.at(0.3) == Project(strength=0.3, pool="each")


def test_a_budget_is_one_point_unless_given() -> None:
    assert found().budget == 1


def test_a_plan_is_checked_at_the_strongest() -> None:
    assert make_method(recipe()) == Project(strength=1.0)


def test_the_other_settings_are_checked() -> None:
    with pytest.raises(SettingError, match="Did you mean 'pool'"):
        make_method(recipe(method={"name": "project", "strength": "auto", "pol": "each"}))


@pytest.mark.parametrize("data", ["sandbox", {"path": "sandbox", "split": "audit"}, {"path": "a@b", "split": "stop"}])
def test_data_to_measure_on(data: Any) -> None:
    assert found(data=data).setting == "strength"


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"method": "project", "budget": 1}, r"^A budget of 1 has no setting to choose\. Add --set strength=auto, or"),
        ({"method": "leace", "budget": 1}, r"^A budget of 1 has no setting to choose\. Take the budget out\.$"),
        (
            {"method": {"name": "project", "strength": "auto", "pool": "auto"}},
            r"^A budget can choose one setting, not strength and pool\. Give values for the others\.$",
        ),
        (
            {"method": {"name": "project", "pool": "auto"}},
            r"^method project: a budget cannot choose 'pool'\. It can choose strength=auto\.$",
        ),
        ({"method": {"name": "project", "strenght": "auto"}}, r"Did you mean 'strength'\?$"),
        ({"method": {"name": "leace", "shrinkage": "auto"}}, r"'shrinkage'\. Give a value\.$"),
        ({"data": {"path": "sandbox", "split": "select"}}, r"Measure on --split audit, or leave --split out\.$"),
        ({"data": "photos@select"}, r"Write --data photos in place of photos@select\.$"),
        ({"data": "photos@audit"}, r"Write --data photos --split audit in place of photos@audit\.$"),
    ],
)
def test_refusals(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(SettingError, match=hint):
        find_search(recipe(**values))


@pytest.mark.parametrize("budget", [0, -1, 100.5, float("nan"), float("inf"), "much"])
def test_a_budget_is_between_nothing_and_everything(budget: Any) -> None:
    with pytest.raises(SettingError, match="budget"):
        recipe(budget=budget)
