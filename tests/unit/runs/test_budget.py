"""The strongest setting within a budget, found by bisection."""

from typing import Any

import pytest

from clip_unlearn import methods
from clip_unlearn.core.config import build
from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import reporting
from clip_unlearn.errors import SettingError
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.budget import STEPS, resolve
from clip_unlearn.runs.plan import Plan, plan
from clip_unlearn.runs.predict import scene_of_images, scene_of_names
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.sandbox.classes import CLASS_NAMES

RETAIN = [name for name in CLASS_NAMES if name != "mug"]


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


def prepared(model: Model, budget: float, *, method: Any = None, **values: Any) -> Plan:
    given = {
        "model": "sandbox",
        "forget": ["mug"],
        "retain": RETAIN,
        "background": "none",
        "method": method or {"name": "project", "strength": "auto"},
        "budget": budget,
        **values,
    }
    return plan(build(Recipe, given, where="recipe"), model=model)


def test_the_strongest_within_the_budget(sandbox: Model) -> None:
    ready = prepared(sandbox, 1.0)
    method, (reading,) = resolve(ready)
    scene = scene_of_names(sandbox, ready.request)
    strength = method.model_dump()["strength"]
    cost = {
        value: -100 * scene.change(ready.search.at(value).forget(sandbox, ready.request)).value
        for value in (strength, round(strength + 2 * 0.99 / 2**STEPS, 4), 1.0)
    }
    assert 0.01 < strength < 1
    assert cost[strength] == pytest.approx(-100 * reading.value)
    assert 0.5 < cost[strength] <= 1 < cost[1.0]
    assert max(list(cost.values())[1:]) > 1


def test_a_larger_budget_is_a_stronger_edit_and_the_answer_stays(sandbox: Model) -> None:
    strengths = [resolve(prepared(sandbox, budget))[0].model_dump()["strength"] for budget in (0.5, 2.0, 2.0, 5.0)]
    assert strengths == sorted(strengths)
    assert strengths[0] < strengths[1] == strengths[2] < strengths[3]


def test_the_strongest_value_is_taken_at_once_where_it_is_within(sandbox: Model) -> None:
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *step: told.append(step)):
        method, _ = resolve(prepared(sandbox, 50))
    assert method.model_dump()["strength"] == 1
    assert [step for step in told if step[0] == "budget"] == [
        ("budget", 1, STEPS + 2),
        ("budget", STEPS + 2, STEPS + 2),
    ]


def test_progress_is_told(sandbox: Model) -> None:
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *step: told.append(step)):
        resolve(prepared(sandbox, 1))
    assert [step[1] for step in told if step[0] == "budget"] == list(range(1, STEPS + 3))


def test_even_the_gentlest_is_too_dear(sandbox: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepared(sandbox, 0.05)
    monkeypatch.setattr(methods.find("project"), "tunable", {"strength": (0.9, 1.0)})
    dear = (
        -100 * scene_of_names(sandbox, ready.request).change(ready.search.at(0.9).forget(sandbox, ready.request)).value
    )
    with pytest.raises(SettingError) as refused:
        resolve(ready)
    message = str(refused.value)
    assert message.startswith(
        f"Even strength=0.9, the gentlest, is predicted to cost {dear:.2f} points of retained acc"
    )
    assert f"{dear - 0.05:.2f} more than the budget of 0.05. Give --budget " in message
    way_out = float(message.split("--budget ")[1].split(",")[0])
    assert dear <= way_out < dear + 0.11


def test_far_ends_are_halved_on_a_logarithmic_scale(sandbox: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, tried = prepared(sandbox, 1.0), []
    kind = methods.find("project")
    monkeypatch.setattr(kind, "tunable", {"strength": (1e-6, 1.0)})
    real = type(ready.search).at
    monkeypatch.setattr(type(ready.search), "at", lambda search, value: tried.append(value) or real(search, value))
    resolve(ready)
    assert tried[:3] == [1.0, 1e-6, 1e-3]
    assert all(value == float(f"{value:.4g}") for value in tried)


def test_downhill_settings_are_found_too(sandbox: Model) -> None:
    """A weight of what is retained is gentlest where it is large."""
    if "ccup" not in methods.names():
        pytest.skip("there is no method ccup")
    method, (reading,) = resolve(prepared(sandbox, 0.4, method={"name": "ccup", "retain_weight": "auto"}))
    weight = method.model_dump()["retain_weight"]
    assert 1e-2 <= weight <= 1e6
    assert -100 * reading.value <= 0.4


@pytest.mark.parametrize("name", ["ccup", "redirect"])
@pytest.mark.parametrize("setting", ["strength", "forget_weight"])
def test_other_methods(sandbox: Model, name: str, setting: str) -> None:
    if name not in methods.names():
        pytest.skip(f"there is no method {name}")
    method, (reading,) = resolve(prepared(sandbox, 0.3, method={"name": name, setting: "auto"}))
    low, high = sorted(methods.find(name).tunable[setting])
    assert low <= method.model_dump()[setting] <= high
    assert -100 * reading.value <= 0.3


def test_with_pictures_the_select_part_chooses_and_the_audit_part_is_left(sandbox: Model) -> None:
    ready = prepared(sandbox, 0.4, data="sandbox:photo", retain=[])
    assert ready.selection is not None
    assert (ready.selection.where, ready.images.where) == ("sandbox:photo@select", "sandbox:photo@audit")
    assert {probe.split for probe in ready.probes} == {"audit"}
    method, (reading,) = resolve(ready)
    scene = scene_of_images(sandbox, ready.request, ready.selection)
    assert scene.change(method.forget(sandbox, ready.request)) == reading
    assert -100 * reading.value <= 0.4
    assert reading.interval.endswith("on sandbox:photo@select")


def test_without_a_budget_all_data_is_measured_on_and_nothing_is_predicted(sandbox: Model) -> None:
    recipe = {"model": "sandbox", "forget": ["mug"], "method": "project", "data": "sandbox:photo"}
    ready = plan(build(Recipe, recipe, where="recipe"), model=sandbox)
    assert (ready.search, ready.selection, ready.images.where) == (None, None, "sandbox:photo")
    assert resolve(ready) == (ready.method, ())
