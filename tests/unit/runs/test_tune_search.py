"""Bisection, every combination and Optuna, on made-up answers; and which trial is chosen."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from clip_unlearn.core.progress import reporting
from clip_unlearn.core.record import Reading
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.runs.recipe import MethodChoice
from clip_unlearn.runs.tune_search import Trials, explore, strategy_of
from clip_unlearn.runs.tune_space import Space, read_space
from clip_unlearn.runs.tuned import Failure, Trial, marked, preferred

BUDGET = 0.02
COUNT = 1000

Answer = Callable[[dict[str, Any]], "tuple[float, float] | Failure"]
"""Forget accuracy and what is lost of retained accuracy, or a failure."""


def reading(name: str, value: float) -> Reading:
    return Reading(name=name, value=value, low=value, high=value, count=COUNT, better="neither")


def trial(number: int, values: dict[str, Any], found: "tuple[float, float] | Failure") -> Trial:
    if isinstance(found, str):
        return Trial(number=number, settings=values, seconds=0, failure=found, reason=f"{found}.")
    forget, lost = found
    return Trial(
        number=number,
        settings=values,
        seconds=0,
        forget=reading("forget accuracy", forget),
        retain=reading("retain accuracy", 1 - lost),
        cost=reading("retain accuracy change", -lost),
        within=lost <= BUDGET + 1e-9,
    )


def space(*search: str, method: str = "ccup", **settings: Any) -> Space:
    return read_space(MethodChoice(name=method, settings=settings), search)


def explored(where: Space, answer: Answer, most: int = 20, seed: int = 0) -> Trials:
    trials = Trials(make=lambda number, values: trial(number, values, answer(values)), most=most)
    explore(where, trials, seed=seed)
    assert [one.number for one in trials.made] == list(range(1, len(trials.made) + 1))
    assert len(trials.made) <= most
    return trials


ONE = space("strength=0.01:1")


def chosen(trials: Trials, setting: str = "strength") -> Any:
    best = preferred(trials.made)
    return None if best is None else best.settings[setting]


def test_bisection_finds_the_strongest_within_the_budget() -> None:
    found = explored(ONE, lambda values: (1 - values["strength"], 0.05 * values["strength"]), most=30)
    assert chosen(found) == pytest.approx(0.4, abs=0.001)
    assert all(one.within == (one.settings["strength"] <= 0.4) for one in found.made)


def test_bisection_where_larger_is_gentler() -> None:
    where = space("retain_weight=1e-2:1e6:log")
    found = explored(where, lambda values: (values["retain_weight"] / 1e6, min(1, 2 / values["retain_weight"])), 30)
    assert chosen(found, "retain_weight") == pytest.approx(100, rel=0.01)
    assert chosen(found, "retain_weight") >= 100
    steps = explored(where, lambda values: (float(values["retain_weight"] > 1e3), 1 / values["retain_weight"]), 30)
    assert chosen(steps, "retain_weight") == pytest.approx(1000, rel=0.01)


def test_bisection_of_a_whole_number_tries_no_value_twice() -> None:
    where = space("descent.steps=10:40", method="cliperase")
    found = explored(where, lambda values: (1 - values["descent.steps"] / 50, values["descent.steps"] / 1000))
    assert chosen(found, "descent.steps") == 20
    steps = [one.settings["descent.steps"] for one in found.made]
    assert len(set(steps)) == len(steps)
    assert all(isinstance(step, int) for step in steps)


def test_of_values_that_forget_as_much_the_gentlest_is_chosen() -> None:
    found = explored(ONE, lambda values: (float(values["strength"] < 0.3), 0.02 * values["strength"]))
    assert chosen(found) == pytest.approx(0.3, abs=0.001)
    both = explored(ONE, lambda values: (float(values["strength"] < 0.3), 0.04 * values["strength"]))
    assert chosen(both) == pytest.approx(0.3, abs=0.005)


def test_half_of_the_trials_go_to_either_search() -> None:
    found = explored(ONE, lambda values: (float(values["strength"] < 0.3), 0.04 * values["strength"]), most=10)
    tried = [one.settings["strength"] for one in found.made]
    assert tried[:6] == [0.01, 1, 0.505, 0.2575, 0.3812, 0.4431]
    assert len(tried) == 10
    assert tried[6] == pytest.approx((0.01 + 0.4431) / 2, abs=0.001)
    assert chosen(found) == min(strength for strength in tried if strength >= 0.3)


def test_bisection_ends_where_both_ends_are_beyond_the_budget() -> None:
    found = explored(ONE, lambda values: (1 - values["strength"], 0.5 + values["strength"] / 10))
    assert len(found.made) == 2
    assert chosen(found) is None


def test_a_trial_that_diverged_is_beyond_the_budget() -> None:
    found = explored(ONE, lambda values: "diverged" if values["strength"] > 0.5 else (1 - values["strength"], 0.0), 30)
    assert chosen(found) == pytest.approx(0.5, abs=0.001)


def test_between_nothing_and_too_much() -> None:
    """The usual range of a learning rate: too small to change anything, and too large."""

    def answer(values: dict[str, Any]) -> "tuple[float, float] | Failure":
        strength = values["strength"]
        return "nothing changed" if strength < 0.2 else (1 - strength, 0.0 if strength < 0.3 else 1.0)

    assert chosen(explored(ONE, answer, 30)) == pytest.approx(0.3, abs=0.01)


def test_nothing_beyond_what_works_is_too_strong() -> None:
    found = explored(ONE, lambda values: "nothing changed" if values["strength"] > 0.5 else (1 - values["strength"], 0))
    assert chosen(found) == pytest.approx(0.5, abs=0.01)


def test_nothing_anywhere() -> None:
    found = explored(ONE, lambda _: "nothing changed")
    assert len(found.made) == 2
    assert chosen(found) is None


def test_few_combinations_are_all_tried() -> None:
    where = space("pool=name,concept", "convention=R,C")
    assert strategy_of(where, 4) == "every combination"
    assert strategy_of(where, 3) == "tree-structured Parzen estimator"
    found = explored(
        where, lambda values: (0.5 * (values["pool"] == "name") + 0.1 * (values["convention"] == "C"), 0), 9
    )
    assert len(found.made) == 4
    assert chosen(found, "pool") == "concept"


MANY = space("strength=0.01:1", "forget_weight=1e-2:1e6:log", "pool=name,concept")


def valley(values: dict[str, Any]) -> tuple[float, float]:
    """Forgetting grows with the first setting, and so does the cost, which the second one doubles."""
    strength, pool = values["strength"], values["pool"] == "concept"
    return 1 - 0.9 * strength, 0.04 * strength * (1 if pool else 2)


def test_optuna_comes_near_the_best_within_the_budget() -> None:
    found = explored(MANY, valley, 40)
    assert len(found.made) == 40
    assert chosen(found, "pool") == "concept"
    assert 0.4 <= chosen(found) <= 0.5


def test_optuna_learns_from_trials() -> None:
    """Later proposals are better than the first ones, also where most are beyond the budget or fail."""

    def answer(values: dict[str, Any]) -> "tuple[float, float] | Failure":
        return "diverged" if values["forget_weight"] > 1e3 else valley(values)

    found = explored(MANY, answer, 40)
    good = [not one.failure and one.within for one in found.made]
    assert sum(good[20:]) > sum(good[:20]) + 4


def test_equal_seeds_propose_equal_trials() -> None:
    assert explored(MANY, valley, 8).made == explored(MANY, valley, 8).made
    assert explored(MANY, valley, 8).made != explored(MANY, valley, 8, seed=1).made


def test_the_values_given_are_tried_first() -> None:
    first = explored(MANY, valley, 2).made[0].settings
    assert first == {"strength": 1.0, "forget_weight": 1e6, "pool": "name"}
    given = space("strength=0.01:1", "pool=name,concept", strength=0.5)
    assert explored(given, valley, 3).made[0].settings == {"strength": 0.5, "pool": "name"}


def test_the_search_ends_where_nothing_new_is_proposed() -> None:
    where = space("strength=0.9999:1", "pool=name,concept")
    assert 2 <= len(explored(where, valley, 6).made) <= 4


def test_optuna_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'clip-unlearn\[tune\]'"):
        strategy_of(MANY, 20)
    assert strategy_of(ONE, 20) == "bisection"


def test_optuna_keeps_its_voice() -> None:
    import optuna

    before = optuna.logging.get_verbosity()
    explored(MANY, valley, 2)
    assert optuna.logging.get_verbosity() == before


def test_no_trial_starts_when_the_time_is_up() -> None:
    def slow(number: int, values: dict[str, Any]) -> Trial:
        time.sleep(0.02)
        return trial(number, values, valley(values))

    trials = Trials(make=slow, most=20, timeout=0.05)
    explore(MANY, trials, seed=0)
    assert trials.timed_out
    assert 1 <= len(trials.made) <= 4
    tiny = Trials(make=slow, most=20, timeout=1e-9)
    explore(MANY, tiny, seed=0)
    assert len(tiny.made) == 1


def test_other_errors_end_the_search() -> None:
    def broken(number: int, values: dict[str, Any]) -> Trial:
        raise UnsupportedError("no such side")

    with pytest.raises(UnsupportedError):
        explore(MANY, Trials(make=broken, most=5), seed=0)


def test_progress_is_told_trial_by_trial() -> None:
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *step: told.append(step)):
        explored(MANY, valley, 3)
    assert told == [("tune", 0, 3), ("tune", 1, 3), ("tune", 2, 3), ("tune", 3, 3)]


def test_which_trial_is_preferred() -> None:
    points: list[tuple[float, float] | Failure] = [
        (0.0, 0.5),
        (0.2, 0.01),
        (0.1, 0.02),
        (0.1, 0.01),
        (0.1, 0.01),
        "diverged",
    ]
    trials = [trial(place, {}, point) for place, point in enumerate(points, 1)]
    best = preferred(trials)
    assert best is not None
    assert best.number == 4
    assert preferred(trials[:1]) is None


def test_the_front() -> None:
    points: list[tuple[float, float] | Failure] = [
        (0.0, 0.5),
        (0.0, 0.4),
        (0.2, 0.1),
        (0.2, 0.1),
        (0.3, 0.1),
        (1.0, 0.0),
    ]
    trials = [trial(place, {}, point) for place, point in enumerate([*points, "diverged"], 1)]
    assert [one.number for one in marked(trials) if one.front] == [2, 3, 4, 6]
