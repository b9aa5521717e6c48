"""The strongest setting of a method whose predicted cost stays within a budget."""

import math
from typing import Final

from clip_unlearn.core.method import Method
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Reading
from clip_unlearn.errors import SettingError
from clip_unlearn.runs.plan import Plan
from clip_unlearn.runs.predict import Scene, scene_of_images, scene_of_names
from clip_unlearn.runs.search import Search

STEPS: Final = 12
"""Steps of the bisection."""

WIDE: Final = 100.0
"""Ratio of strongest and gentlest value beyond which the middle is the geometric one."""

DIGITS: Final = 4
"""Significant digits of the values that are tried."""

ROUNDING: Final = 1e-9
"""Percentage points by which 100 x 0.07 is more than 7."""


def resolve(prepared: Plan) -> tuple[Method, tuple[Reading, ...]]:
    """Return the method of a plan with every setting given, and the prediction that chose it; none without a budget.

    Tried are the strongest value, the gentlest, and then 12 between a value within the budget and one beyond it; the
    answer is the last one within. Only a fall of retained accuracy counts against the budget. It is predicted on the
    `select` part of the data, or on names alone without data: see `scene_of_names` for what that takes for granted.
    Same plan, same answer.

    Raises:
        SettingError: if even the gentlest value costs more than the budget.
        UnsupportedError: if names alone do not tell what the edit does.
    """
    search = prepared.search
    if search is None:
        return prepared.method, ()
    scene = _scene(prepared)
    value, reading = _strongest_within(search, scene)
    return search.at(value), (reading,)


def _scene(prepared: Plan) -> Scene:
    if prepared.selection is None:
        return scene_of_names(prepared.model, prepared.request)
    return scene_of_images(prepared.model, prepared.request, prepared.selection)


def _strongest_within(search: Search, scene: Scene) -> tuple[float, Reading]:
    done = iter(range(1, STEPS + 3))

    def cost(value: float) -> Reading:
        found = scene.change(search.at(value).forget(scene.model, scene.request))
        report("budget", next(done), STEPS + 2)
        return found

    def within(reading: Reading) -> bool:
        return -100 * reading.value <= search.budget + ROUNDING

    beyond, found = search.strongest, cost(search.strongest)
    if within(found):
        report("budget", STEPS + 2, STEPS + 2)
        return beyond, found
    best, found = search.gentlest, cost(search.gentlest)
    if not within(found):
        raise SettingError(_too_dear(search, -100 * found.value))
    for _ in range(STEPS):
        middle = _middle(best, beyond)
        tried = cost(middle)
        if within(tried):
            best, found = middle, tried
        else:
            beyond = middle
    return best, found


def _middle(first: float, second: float) -> float:
    """Return the value half way between two, on a logarithmic scale where they are far apart."""
    low, high = sorted((first, second))
    middle = math.sqrt(low * high) if low > 0 and high / low > WIDE else (low + high) / 2
    return float(f"{middle:.{DIGITS}g}")


def _too_dear(search: Search, points: float) -> str:
    return (
        f"Even {search.setting}={search.gentlest:g}, the gentlest, is predicted to cost {points:.2f} points of "
        f"retained accuracy, {points - search.budget:.2f} more than the budget of {search.budget:g}. Give --budget "
        f"{math.ceil(10 * points) / 10:g}, or another method."
    )
