"""Frozen settings, and how values from outside become them. Torch-free."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from clip_unlearn.errors import SettingError, nearest


class Config(BaseModel):
    """Frozen settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="constants")


def name_of(part: Config) -> str:
    """Return the name that a method or a probe is asked for by: that of its file."""
    return type(part).__module__.rpartition(".")[2]


ConfigType = TypeVar("ConfigType", bound=BaseModel)


def build(kind: type[ConfigType], values: Mapping[str, object], *, where: str) -> ConfigType:
    """Return the validated settings.

    A table that is given for a setting that is a table itself changes what it names: the rest stays as the default of
    that setting has it.

    Raises:
        SettingError: one line naming the first wrong setting, what is wrong and what would be right.
    """
    try:
        return kind.model_validate(_completed(kind, values))
    except ValidationError as error:
        raise SettingError(_first_problem(kind, error, where)) from error


def _completed(kind: type[BaseModel], values: Mapping[str, object]) -> dict[str, object]:
    found = dict(values)
    for name, value in values.items():
        default = kind.model_fields[name].default if name in kind.model_fields else None
        if isinstance(default, BaseModel) and isinstance(value, Mapping):
            found[name] = {**default.model_dump(), **value}
    return found


def _first_problem(kind: type[BaseModel], error: ValidationError, where: str) -> str:
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields_at(kind, problem["loc"][:-1])
        options = ", ".join(known) or "none"
        return f"{where}: unknown setting '{name}'.{nearest(str(problem['loc'][-1]), known)} Settings: {options}."
    if problem["type"] == "missing":
        return f"{where}: setting '{name}' is missing. Add it."
    # The first letter alone: what is quoted in the message, such as an allowed value, keeps its case.
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    # What is wrong with a group of settings is said by the message; the group itself would drown it.
    of_group = isinstance(problem["input"], Mapping | BaseModel)
    given = name if of_group else f"{name} = {problem['input']!r}"
    return f"{where}: {given} is not usable: {message}. Change it." if given else f"{where}: {message}."


def _fields_at(kind: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = kind.model_fields.get(str(part))
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return list(kind.model_fields)
