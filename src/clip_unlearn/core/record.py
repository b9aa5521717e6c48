"""What was done and what was measured, as one versioned JSON file. Torch-free: reports are made from this alone."""

from pathlib import Path
from typing import Final, Literal, TypeAlias, final, get_args

from pydantic import Field, ValidationError

from clip_unlearn.core.config import Config
from clip_unlearn.core.request import Request
from clip_unlearn.errors import DataError
from clip_unlearn.files import atomic

SCHEMA: Final = 1

Better: TypeAlias = Literal["low", "high", "neither"]
NOVEL: Final = "novel class "
"""What the name of a class stands behind that the original does not know, where a reading is about it."""

NOVEL_ACCURACY: Final = "novel class accuracy"
"""What the readings are called that say how often the original names such a class right."""

Subject: TypeAlias = Literal["before", "after", "change", "reference", "control"]
SYNTHETIC: Final = "synthetic forget accuracy"
"""What a method calls its reading of how many of its own pictures of the forgotten are still recognised."""
APART: Final = "synthetic minus real forget accuracy"
"""What the record calls the difference between that and the same share of photographs."""
Plain: TypeAlias = str | int | float | bool | tuple[str, ...] | tuple[float, ...] | None
Setting: TypeAlias = Plain | dict[str, Plain]
"""A value, or a table of them for settings that belong together."""
Edit: TypeAlias = Literal["suppress", "erase"]
"""suppress: a patch beside an unchanged base model; whoever has both can take the edit off again.
erase: a checkpoint that is handed out alone with the edit in its weights; without the base model the edit cannot be
taken off exactly. The word says what is handed out, not that anything was shown to be gone."""


@final
class Reading(Config):
    """One measured number with its uncertainty, count and direction."""

    name: str
    """What was measured, for example "forget accuracy"."""

    value: float
    """The measured value; accuracies and shares are in [0, 1]."""

    low: float
    """Lower end of the 95 % interval."""

    high: float
    """Upper end of the 95 % interval."""

    count: int
    """Number of independent items behind the value."""

    better: Better
    """Which direction is the wished one."""

    subject: Subject = "after"
    """The model before the edit, after it, the paired change, or a reference or positive control beside them."""

    of: str = ""
    """The class, domain or wording it is about; empty for a total."""

    interval: str = "Wilson"
    """How the interval was made."""

    attempts: int = 1
    """Of how many attempts this is the worst; its interval holds for all of them at once."""

    p_value: float | None = None
    """Exact McNemar p-value of a paired change, where there is one."""


@final
class Source(Config):
    """Where a model or data set came from."""

    where: str
    revision: str = ""
    """Resolved hub revision; empty for local folders."""

    digest: str = ""
    """Fingerprint of the weights, or content digest of the data."""

    count: int = 0
    """Number of items of a data set."""


@final
class Reach(Config):
    """How far an edit goes; what still leaks follows from it."""

    towers: tuple[Literal["image", "text"], ...] = ()
    """The sides whose embeddings change."""

    depth: Literal["none", "readout", "encoder"] = "none"
    """The last layer only (or a map after it), or layers below it too."""

    invertible: bool = False
    """True when the edit of a side is a linear map of its embeddings that can be inverted."""


@final
class Origin(Config):
    """Who made a patch: enough to make it again."""

    method: str
    settings: dict[str, Setting]
    request: Request
    base: Source
    """The model the patch was made for."""

    version: str
    """Version of this package."""

    touches: tuple[str, ...] = ()
    """Names of the changed weights, and "output:image" or "output:text" for maps of an output."""

    survived: float = 1.0
    """Share of the edit left after the cast to the model's number format."""

    reason: str = ""
    """Why the patch is empty, where it is."""

    reach: Reach | None = None
    """How far the edit goes; None where it was not recorded."""

    measured: tuple[Reading, ...] = ()
    """What the method measured while it worked, for example on pictures that it made itself."""


GradeName: TypeAlias = Literal["F0", "inconclusive", "F1", "F2", "F3", "F4", "F5"]
"""How far a claim of forgetting may go; `core.grades` says what each needs, of F5 `core.distance`."""


@final
class GradeLine(Config):
    """One thing that a grade needs."""

    grade: GradeName
    """The grade that needs it."""

    what: str
    passed: bool
    why: str
    """The figures, and what would be needed where it did not pass."""


@final
class Grade(Config):
    """How far a claim of forgetting may go."""

    grade: GradeName
    words: str
    """What may be said, and no more."""

    ceiling: GradeName
    """The highest grade that this edit and these audits could earn."""

    why: str
    """Why no higher."""

    lines: tuple[GradeLine, ...]

    def reaches(self, wanted: GradeName) -> bool:
        """Return whether it is the wanted grade or a higher one."""
        order = get_args(GradeName)
        return bool(order.index(self.grade) >= order.index(wanted))


@final
class Skipped(Config):
    """A probe that was not run."""

    probe: str
    reason: str


@final
class Sample(Config):
    """One picture with the model's answer before and after."""

    picture: str
    """File name in the record's `samples` folder."""

    truth: str
    before: str
    after: str


@final
class Environment(Config):
    """The machine and libraries a record was made with."""

    package: str
    python: str
    libraries: dict[str, str]
    machine: str
    threads: int
    device: str


@final
class Record(Config):
    """One run: what was asked, what was done, what was measured."""

    schema_version: Literal[1] = SCHEMA
    created: str
    """Time of the run, UTC, ISO 8601."""

    command: str
    """A command line that repeats the run."""

    origin: Origin
    after: Source
    """The edited model; its digest is the fingerprint after the edit."""

    data: Source | None = None
    """The images that were measured on."""

    references: tuple[Source, ...] = ()
    """Models that never saw what was forgotten, which the same was measured on."""

    novel: Source | None = None
    """Images of classes that the original does not know, which stand for such models where attacks are shown some."""

    portable: bool
    """True when the result is an ordinary checkpoint, without a map beside it."""

    seconds: dict[str, float]
    """Wall time of each stage."""

    estimated: dict[str, float] = Field(default_factory=dict)
    """About how many seconds were foreseen for each stage, where that was said beforehand."""

    environment: Environment
    edit: Edit = "suppress"
    """What was made: a patch beside the model, or a checkpoint to be handed out alone."""

    leaks: tuple[str, ...] = ()
    """What still gives the forgotten away, in plain sentences; empty where it was not recorded."""

    grade: Grade | None = None
    """How far a claim of forgetting may go; None where no audit was made."""

    readings: tuple[Reading, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    samples: tuple[Sample, ...] = ()
    quarantine: tuple[str, ...] = ()
    """Images that could not be read, with the reason."""

    def save(self, path: Path) -> None:
        """Write the record as JSON, atomically."""
        atomic.write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Return the record in a file.

        Raises:
            DataError: if the file is missing or is not a record of a known schema.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise DataError(f"Record {path} does not exist. Give the record.json of a finished run.") from error
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"]) or "top level"
            raise DataError(f"{path} is not a record of schema {SCHEMA} ({where}: {problem['msg']}).") from error
