"""Which settings of a method are searched: from words to checked ranges and choices."""

import itertools
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, Union, cast, final, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from clip_unlearn import methods
from clip_unlearn.core.config import build
from clip_unlearn.core.method import Method
from clip_unlearn.core.record import Plain, Setting
from clip_unlearn.errors import SettingError, nearest
from clip_unlearn.runs.recipe import MethodChoice
from clip_unlearn.runs.search import AUTO
from clip_unlearn.runs.tuned import Choice, Dimension, Range

Values: TypeAlias = Mapping[str, Plain]
"""A value for every setting that is searched."""

EXAMPLE: Final = "Write for example --search rate=1e-4:1e-2:log, --search weight=1:9 or --search side=text,image."

MOST_CORNERS: Final = 4096
"""Combinations of ends and choices that are validated before anything is computed; the others when their turn comes."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """A method with some settings open."""

    name: str
    """Name of the method."""

    kind: type[Method]
    fixed: Mapping[str, Setting]
    """All other settings that were given."""

    dimensions: tuple[Dimension, ...]

    def method(self, values: Values) -> Method:
        """Return the method with these values.

        Raises:
            SettingError: if the values are not usable, one by one or together.
        """
        return build(self.kind, self.settings(values), where=f"method {self.name}")

    def settings(self, values: Values) -> dict[str, Setting]:
        """Return the settings of the method as a recipe gives them: those given, with these values over them."""
        found = dict(self.fixed)
        for path, value in values.items():
            table, _, last = path.rpartition(".")
            if table:
                inside = found.get(table)
                found[table] = {**(inside if isinstance(inside, dict) else {}), last: value}
            else:
                found[last] = value
        # A recipe takes the word for what a budget chooses; left out, it is what these settings are anyway.
        return {name: value for name, value in found.items() if value != AUTO or name not in self.kind.model_fields}

    def corners(self) -> Iterator[dict[str, Plain]]:
        """Yield every combination of choices and of ends of ranges, but not more than 4096."""
        ends = [(one.low, one.high) if isinstance(one, Range) else one.values for one in self.dimensions]
        yield from itertools.islice(self._combined(ends), MOST_CORNERS)

    def combinations(self, most: int) -> tuple[dict[str, Plain], ...] | None:
        """Return all values that there are, or None where there are more than `most` or infinitely many."""
        counts = [_count(one) for one in self.dimensions]
        if math.prod(counts) > most:
            return None
        values = [
            range(int(one.low), int(one.high) + 1) if isinstance(one, Range) else one.values for one in self.dimensions
        ]
        return tuple(self._combined(values))

    def start(self) -> dict[str, Plain] | None:
        """Return the values that were given or are the default, or None where one of them is outside the search."""
        given = build(self.kind, self.fixed, where=f"method {self.name}")
        values = {one.setting: value_of(given, one.setting) for one in self.dimensions}
        inside = all(_holds(one, values[one.setting]) for one in self.dimensions)
        return values if inside else None

    def _combined(self, values: Sequence[Sequence[Plain]]) -> Iterator[dict[str, Plain]]:
        names = [one.setting for one in self.dimensions]
        for combination in itertools.product(*values):
            yield dict(zip(names, combination, strict=True))


def read_space(method: MethodChoice, search: Sequence[str]) -> Space:
    """Return what is searched, from `name=low:high[:log]` and `name=one,other,...`.

    A setting that is given and searched keeps its given value as a start; `auto` is dropped there.

    Raises:
        UnknownNameError: if there is no such method.
        SettingError: if a setting is unknown, searched twice, no number where a range is given, or may not have one of
            the values.
    """
    if not search:
        raise SettingError(f"Nothing to search. {EXAMPLE}")
    kind = methods.find(method.name)
    dimensions = tuple(_dimension(method.name, kind, text) for text in search)
    names = [one.setting for one in dimensions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingError(f"'{twice}' is searched twice. Give it once, with all its values.")
    fixed = {name: value for name, value in method.settings.items() if not _is_open(kind, name, value)}
    opened = next((name for name in method.settings if name not in (*fixed, *names)), None)
    if opened is not None:
        raise SettingError(
            f"tune measures instead of predicting, so '{opened}' cannot be {AUTO}. Give it with --search "
            f"{opened}=LOW:HIGH."
        )
    space = Space(name=method.name, kind=kind, fixed=fixed, dimensions=dimensions)
    for corner in space.corners():
        space.method(corner)
    return Space(name=method.name, kind=kind, fixed=fixed, dimensions=tuple(_clean(space, one) for one in dimensions))


def value_of(method: Method, path: str) -> Plain:
    """Return the value of a setting, `table.setting` for one of a table."""
    found: object = method.model_dump()
    for part in path.split("."):
        found = cast(Mapping[str, object], found)[part]
    return cast(Plain, found)


def _is_open(kind: type[Method], name: str, value: Setting) -> bool:
    """Return whether a setting is left to a budget; where the word is the default, it is a value like others."""
    return value == AUTO and not (name in kind.model_fields and kind.model_fields[name].default == AUTO)


def _dimension(method: str, kind: type[Method], text: str) -> Dimension:
    path, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not path or not given:
        raise SettingError(f"--search {text!r} is not name=values. {EXAMPLE}")
    field = _field(method, kind, path)
    number = _number(field)
    if number is not None and ":" in given:
        return _range(text, path, given, whole=number is int)
    try:
        values = yaml.safe_load(f"[{given}]")
    except yaml.YAMLError as error:
        raise SettingError(f"--search {text!r} has no readable values. {EXAMPLE}") from error
    if len(values) < 2:
        way = " Only a number can have a range low:high." if ":" in given else ""
        raise SettingError(f"--search {text!r} leaves no choice.{way} Give several values, or one with --set.")
    return Choice(setting=path, values=tuple(tuple(one) if isinstance(one, list) else one for one in values))


def _field(method: str, kind: type[BaseModel], path: str) -> FieldInfo:
    """Return the field that a dotted name stands for."""
    table, _, last = path.rpartition(".")
    known = kind.model_fields
    if table:
        known = _table(known[table]) if table in known and _table(known[table]) else {}
        if not known:
            raise SettingError(_unknown(method, table, _tables(kind)))
    if last not in known:
        raise SettingError(_unknown(method, path, [f"{table}.{name}" if table else name for name in known]))
    inside = _table(known[last])
    if inside:
        raise SettingError(f"'{path}' is a table. Search one of its settings, for example {path}.{next(iter(inside))}.")
    return known[last]


def _table(field: FieldInfo) -> dict[str, FieldInfo]:
    """Return the settings in a table, {} where the field is none."""
    kinds = (field.annotation, *get_args(field.annotation))
    inner = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
    return {} if inner is None else dict(inner.model_fields)


def _tables(kind: type[BaseModel]) -> list[str]:
    return [name for name, field in kind.model_fields.items() if _table(field)]


def _unknown(method: str, name: str, known: Sequence[str]) -> str:
    options = ", ".join(known) or "none"
    return f"method {method}: unknown setting '{name}' to search.{nearest(name, known)} Settings: {options}."


def _number(field: FieldInfo) -> type[int] | type[float] | None:
    """Return whether a setting is a whole number, a number, or neither."""
    union = get_origin(field.annotation) in (Union, types.UnionType)
    kinds = get_args(field.annotation) if union else (field.annotation,)
    return float if float in kinds else int if int in kinds else None


def _range(text: str, path: str, given: str, *, whole: bool) -> Range:
    low, high, *scale = (part.strip() for part in given.split(":"))
    if len(scale) > 1 or any(word != "log" for word in scale):
        raise SettingError(f"--search {text!r} is not low:high or low:high:log. {EXAMPLE}")
    try:
        ends = float(low), float(high)
    except ValueError as error:
        raise SettingError(f"--search {text!r} has an end that is no number. {EXAMPLE}") from error
    if not all(math.isfinite(end) for end in ends):
        raise SettingError(f"--search {text!r} has an end that is not finite. {EXAMPLE}")
    if ends[0] >= ends[1]:
        raise SettingError(f"--search {text!r} starts at {low} and ends at {high}. Give the smaller number first.")
    if scale and ends[0] <= 0:
        raise SettingError(
            f"--search {text!r} goes by factors, so it must start above 0. Take ':log' out, or start above."
        )
    if whole and any(end != int(end) for end in ends):
        raise SettingError(f"--search {text!r}: '{path}' is a whole number. Give whole numbers.")
    return Range(setting=path, low=ends[0], high=ends[1], log=bool(scale), whole=whole)


def _clean(space: Space, one: Dimension) -> Dimension:
    """Return the dimension with the values as the method understands them, each of which must be another."""
    if isinstance(one, Range):
        return one
    first = next(space.corners())
    values = tuple(value_of(space.method({**first, one.setting: value}), one.setting) for value in one.values)
    told = [repr(value) for value in values]
    twice = next((value for place, value in enumerate(told) if value in told[:place]), None)
    if twice is not None:
        raise SettingError(f"--search {one.setting} has {twice} twice. Give every value once.")
    return Choice(setting=one.setting, values=values)


def _count(one: Dimension) -> float:
    if isinstance(one, Choice):
        return len(one.values)
    return one.high - one.low + 1 if one.whole else math.inf


def _holds(one: Dimension, value: Plain) -> bool:
    if isinstance(one, Choice):
        return value in one.values
    return isinstance(value, int | float) and not isinstance(value, bool) and one.low <= value <= one.high
