"""A run as a YAML file: a serialised request, method and data. There is no second schema."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, final

import yaml
from pydantic import Field, model_validator

from clip_unlearn.core.config import Config, build
from clip_unlearn.core.record import Setting
from clip_unlearn.core.request import Concept
from clip_unlearn.errors import SettingError
from clip_unlearn.files.paths import existing
from clip_unlearn.runs.names import Background, OtherNames

SIZE_LIMIT = 1_000_000
DEPTH_LIMIT = 20
DEFAULT_METHOD = "redirect"
"""The best data-free method that was measured; see docs/guide/closed-forms.md."""
PROBES = ("zero_shot", "name_sweep", "over_forgetting", "drift")
CAPTION_PROBES = ("retrieval",)
"""What is measured besides where images have captions and no class labels."""
OTHER_PROBES = ("other_data", "average_score")
"""What is measured besides where other data are given."""


@final
class MethodChoice(Config):
    """A method by name, with settings."""

    name: str = DEFAULT_METHOD
    """Name of the method, as `ls methods` lists it."""

    settings: dict[str, Setting] = Field(default_factory=dict)
    """Settings that differ from the defaults."""

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: object) -> object:
        """Accept `project` and `{name: project, strength: 0.9}` for the same thing."""
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and "settings" not in value:
            settings = {str(key): setting for key, setting in value.items() if key != "name"}
            return {**({"name": value["name"]} if "name" in value else {}), "settings": settings}
        return value


@final
class ModelChoice(Config):
    """A model by name, with how to open it."""

    id: str
    """Folder, hub id or embedded model."""

    revision: str | None = None
    """Revision on the hub."""

    offline: bool = False
    """Look into the local cache only."""

    device: str = "cpu"
    """Where to compute."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"id": value} if isinstance(value, str) else value


@final
class DataChoice(Config):
    """Images to measure on."""

    path: str
    """Folder, Parquet, table, shards or `sandbox`."""

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value


@final
class Recipe(Config):
    """Everything a run needs; equal recipes on equal inputs give equal patches."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: ModelChoice
    """The model to edit."""

    forget: tuple[Concept, ...]
    """What to forget: names, `name | synonym`, or tables of name and synonyms."""

    retain: tuple[str, ...] = ()
    """Names to retain; without any, the other classes of the data."""

    other_names: OtherNames = "auto"
    """Where other names of what is to be forgotten come from: the thesaurus, a WordNet on this machine too, or none."""

    background: Background = "nouns"
    """What else should not change: about 1,200 common nouns, or nothing."""

    method: MethodChoice = Field(default_factory=MethodChoice)
    """How to forget."""

    budget: float | None = Field(default=None, gt=0, le=100)
    """Percentage points of retained accuracy that a setting given as `auto` may cost by prediction; 1 where none is
    given. Predicted on the `select` part of the data, or on names alone without data; of data without a split, the
    `audit` part is then measured on."""

    data: DataChoice | None = None
    """Images to measure on."""

    evidence: DataChoice | None = None
    """Images that a method may learn from, with labels or captions; without, the `stop` part of the data where the
    method needs any. No image of them may be among those to measure on."""

    other_data: tuple[DataChoice, ...] = ()
    """Other labelled images, whose accuracy should not fall; with any, `other_data` and `average_score` are measured
    besides the probes that are named."""

    templates: str = "photo"
    """Template set, file or sentence."""

    probes: tuple[str, ...] = PROBES
    """What to measure."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of everything random in the method."""

    @classmethod
    def load(cls, path: Path) -> "Recipe":
        """Return the recipe in a YAML file.

        Raises:
            SettingError: naming the line or the key that is wrong.
        """
        file = existing(path, what="Recipe", kind=SettingError)
        return build(cls, parse(file), where=str(path))

    def to_yaml(self) -> str:
        """Return the recipe as YAML; loading it gives an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def parse(path: Path) -> dict[str, object]:
    """Return the table in a YAML file, which may hold no anchors, no aliases and no deep nesting.

    Raises:
        SettingError: if the file is too large, not UTF-8, not YAML, not a table, or uses anchors.
    """
    if not path.is_file() or path.stat().st_size > SIZE_LIMIT:
        raise SettingError(f"{path} is no YAML file of at most {SIZE_LIMIT} bytes. Give a recipe file.")
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_anchors(path, text)
        content = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise SettingError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not readable"
        raise SettingError(f"{path} is not valid YAML{line}: {problem}. Correct it.") from error
    if not isinstance(content, dict):
        raise SettingError(f"{path} holds no table of settings. Start with 'model: sandbox' and 'forget: [mug]'.")
    return {str(key): value for key, value in content.items()}


def _refuse_anchors(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if getattr(event, "anchor", None):
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise SettingError(f"{path} uses an anchor or alias at line {line}. Write the value out.")
        if depth > DEPTH_LIMIT:
            raise SettingError(f"{path} is nested deeper than {DEPTH_LIMIT} levels. Flatten it.")
