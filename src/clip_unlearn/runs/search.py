"""Which setting of a method a budget has to choose, read from a recipe and checked before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final, get_args

from clip_unlearn import methods
from clip_unlearn.core.config import build
from clip_unlearn.core.method import Method
from clip_unlearn.core.record import Setting
from clip_unlearn.data.splits import Part
from clip_unlearn.errors import SettingError, nearest
from clip_unlearn.runs.recipe import DataChoice, Recipe

AUTO: Final = "auto"
"""What stands for a value that a budget has to choose."""

DEFAULT_BUDGET: Final = 1.0
"""Percentage points of retained accuracy that may be lost where no budget is given."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A method with one setting open, and what it may cost."""

    method: str
    """Name of the method."""

    kind: type[Method]
    settings: Mapping[str, Setting]
    """All other settings that were given."""

    setting: str
    """The setting to choose."""

    budget: float
    """Percentage points of retained accuracy that may be lost."""

    @property
    def gentlest(self) -> float:
        """Return the value that changes least."""
        return self.kind.tunable[self.setting][0]

    @property
    def strongest(self) -> float:
        """Return the value that changes most."""
        return self.kind.tunable[self.setting][1]

    def at(self, value: float) -> Method:
        """Return the method with the open setting at a value.

        Raises:
            SettingError: if one of the other settings is not usable.
        """
        return build(self.kind, {**self.settings, self.setting: value}, where=f"method {self.method}")


def find_search(recipe: Recipe) -> Search | None:
    """Return what a budget has to choose, or None where every setting is given.

    A setting is open where its value is `auto`. Without a budget it is 1 percentage point.

    Raises:
        SettingError: if several settings are open, the open one cannot be chosen by a budget, a budget has nothing to
            choose, or the images to choose on would be those to measure on.
    """
    kind, given = methods.find(recipe.method.name), recipe.method.settings
    name = recipe.method.name
    tunable = ", ".join(f"{setting}={AUTO}" for setting in kind.tunable)
    setting = _open_setting(given)
    if setting is None:
        if recipe.budget is None:
            return None
        way = f"Add --set {tunable.split(', ')[0]}, or take" if tunable else "Take"
        raise SettingError(f"A budget of {recipe.budget:g} has no setting to choose. {way} the budget out.")
    if setting not in kind.tunable:
        options = nearest(setting, kind.tunable)
        way = f"It can choose {tunable}.{options}" if tunable else "Give a value."
        raise SettingError(f"method {name}: a budget cannot choose '{setting}'. {way}")
    if recipe.data is not None:
        _check_parts(recipe.data)
    budget = DEFAULT_BUDGET if recipe.budget is None else recipe.budget
    others = {other: value for other, value in given.items() if other != setting}
    return Search(method=name, kind=kind, settings=others, setting=setting, budget=budget)


def _open_setting(settings: Mapping[str, Setting]) -> str | None:
    found = [name for name, value in settings.items() if value == AUTO]
    if len(found) > 1:
        raise SettingError(f"A budget can choose one setting, not {' and '.join(found)}. Give values for the others.")
    return found[0] if found else None


def _check_parts(data: DataChoice) -> None:
    """Check that the part to choose on is free, and not the one to measure on."""
    if data.split == "select":
        raise SettingError(
            "The 'select' part chooses the setting, so it cannot measure the result. Measure on --split audit, or "
            "leave --split out."
        )
    source, _, part = data.path.rpartition("@")
    if source and part in get_args(Part):
        split = "" if part == "select" else f" --split {part}"
        raise SettingError(
            f"A budget chooses on one part of the data and measures on another. Write --data {source}{split} in place "
            f"of {data.path}."
        )
