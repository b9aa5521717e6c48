"""From a recipe file and flags to the values of one recipe."""

import os
import re
from pathlib import Path
from typing import Any

from clip_unlearn.errors import SettingError

PLAIN = ("templates", "probes", "evidence", "other_data", "seed", "other_names", "background", "budget")
"""Flags that stand for the field of the same name in a recipe."""


def stay_offline(wanted: bool) -> None:
    """Open no connection where that is wanted; to be called before a library is imported that could."""
    if wanted:
        os.environ["HF_HUB_OFFLINE"] = "1"


def merged(recipe: Path | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe file overridden by the flags that were given.

    Raises:
        SettingError: if neither names a model, or a setting cannot be read.
    """
    from clip_unlearn.data.names import read_names
    from clip_unlearn.runs.recipe import Recipe

    flags = {name: value for name, value in flags.items() if value not in (None, [])}
    values: dict[str, Any] = {} if recipe is None else Recipe.load(recipe).model_dump(by_alias=True)
    _override(values, "model", {"model": "id", "offline": "offline", "device": "device"}, flags)
    _override(values, "data", {"data": "path", "split": "split"}, flags)
    for name in ("forget", "retain"):
        if name in flags:
            values[name] = [one for given in flags[name] for one in read_names(given)]
    _override_method(values, flags)
    values.update({name: flags[name] for name in PLAIN if name in flags})
    if "id" not in values.get("model", {}):
        raise SettingError("No model. Give one with --model, for example --model sandbox.")
    values.setdefault("forget", [])
    return values


def _override(values: dict[str, Any], name: str, fields: dict[str, str], flags: dict[str, Any]) -> None:
    """Replace fields of one table of the recipe by the flags that stand for them."""
    given = {field: flags[flag] for flag, field in fields.items() if flag in flags}
    if given:
        values[name] = {**(values.get(name) or {}), **given}


def _override_method(values: dict[str, Any], flags: dict[str, Any]) -> None:
    from clip_unlearn.runs.recipe import DEFAULT_METHOD

    if "method" in flags:
        values["method"] = {"name": flags["method"], "settings": {}}
    if "settings" in flags:
        chosen = values.setdefault("method", {"name": DEFAULT_METHOD, "settings": {}})
        chosen["settings"] = _over(chosen["settings"], settings_of(flags["settings"]))


def _over(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return settings with others over them; a table keeps what the other one does not name."""
    tables = {name for name in new if isinstance(old.get(name), dict) and isinstance(new[name], dict)}
    return {**old, **new, **{name: {**old[name], **new[name]} for name in tables}}


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """Return the settings that key=value pairs give; a dotted key is one of a table.

    Raises:
        SettingError: if a pair cannot be read, or two pairs contradict each other.
    """
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise SettingError(f"--set {pair!r} is not key=value. Write for example --set strength=0.9.")
        *tables, last = name.strip().split(".")
        try:
            _place(settings, tables, pair)[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingError(
                f"--set {pair!r} has no readable value. Write for example --set strength=0.9."
            ) from error
    return settings


def _place(settings: dict[str, Any], tables: list[str], pair: str) -> dict[str, Any]:
    """Return the table that a dotted name such as `descent.steps` is in."""
    for table in tables:
        settings = settings.setdefault(table, {})
        if not isinstance(settings, dict):
            raise SettingError(f"--set {pair!r} and another --set give '{table}' in two ways. Give one of them.")
    return settings


def parse_seconds(text: str, *, where: str) -> float:
    """Return the seconds of a duration: 90, 90s, 5m or 2h.

    Raises:
        SettingError: if it is no duration above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if found is None or float(found[1]) == 0:
        raise SettingError(f"{where} {text}: no duration. Give seconds, minutes or hours, as 90s, 5m or 2h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
