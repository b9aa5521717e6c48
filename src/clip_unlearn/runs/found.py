"""What to look for, and what is written down about what was found."""

from typing import Final, Literal, final

from pydantic import Field

from clip_unlearn.core.config import Config
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Concept
from clip_unlearn.data.selection import FoundImage
from clip_unlearn.runs.names import Background
from clip_unlearn.runs.recipe import ModelChoice

ASSUMPTION: Final = (
    "Shares of wrong and missed images are what the calibrated probabilities say. They hold if an image without the "
    "concept scores like any other name on these images, and one with it like the name that wins an image. What looks "
    "like the concept and has no name in the list, or a rival that means the same, makes them wrong: look at "
    "contact.png. Where the concept is small or beside something else, more is missed than they say."
)


@final
class FindOrder(Config):
    """What to look for, and where."""

    model: ModelChoice
    """The model that looks."""

    name: Concept
    """The concept, with synonyms."""

    data: str
    """The images to look at."""

    others: tuple[str, ...] = ()
    """Names of what it is not."""

    background: Background = "nouns"
    """What else it is told apart from: about 1,200 common nouns, or nothing."""

    templates: str | None = None
    """Template set, file or sentence; four sentences of our own if not given."""

    precision: float = Field(default=0.9, gt=0, lt=1)
    """Expected precision that the chosen images have at least: their mean calibrated probability."""

    limit: int | None = Field(default=None, ge=1)
    """Most images to choose; the most probable ones."""


@final
class Normal(Config):
    """A normal distribution of margins."""

    mean: float
    deviation: float


@final
class Calibration(Config):
    """How margins became probabilities."""

    share: float
    """Share of images whose margin is that of a match."""

    match: Normal
    """Margins of images that match, as fitted."""

    foreign: Normal
    """Margins of the other images, as fitted."""

    expected_match: Normal
    """Log odds of the name that wins an image, whichever it is: what a match was expected to be like."""

    expected_foreign: Normal
    """Log odds of all other names."""

    weight: float
    """How many images what was expected counts as much as."""

    rounds: int


@final
class Counts(Config):
    """How many images."""

    readable: int
    chosen: int
    labelled_other: int
    """Where the concept is improbable: they count as another name."""

    between: int
    """Neither chosen nor improbable; left out when the result is opened as data."""


@final
class Expected(Config):
    """What the calibrated probabilities say without any label."""

    precision: float
    """Mean probability of the chosen."""

    wrong: float
    """Share of wrong images among the chosen: 1 - precision."""

    images: float
    """How many images show the concept: the sum of all probabilities."""

    missed: float
    """Share of those that were not chosen."""

    assumption: str = ASSUMPTION


@final
class Rival(Config):
    """Another name, and how many images it scores highest on of all other names."""

    name: str
    chosen: int
    """Of the images chosen."""

    refused: int
    """Of the images that were not chosen only because of a rival: with none they would reach the threshold."""


@final
class Share(Config):
    """A counted share with its Wilson interval."""

    value: float
    low: float
    high: float
    count: int


@final
class Truth(Config):
    """How well the chosen images agree with what the data says."""

    by: Literal["labels", "captions"]
    """Whether an image shows the concept by its class, or by a caption that mentions it."""

    images: int
    """Readable images that show it."""

    precision: Share
    recall: Share
    average_precision: float


@final
class Finding(Config):
    """What was found, from what, and how; equal orders on equal models and data give equal bytes."""

    kind: Literal["clip-unlearn find"] = "clip-unlearn find"
    schema_version: Literal[1] = 1
    version: str
    """Of this package."""

    model: Source
    data: Source
    order: FindOrder
    concept: Concept
    """With the synonyms that were found for it."""

    sentences: tuple[str, ...]
    """Templates of all names."""

    names: int
    """How many other names it was told apart from."""

    neutral: tuple[str, ...]
    """Nouns that counted neither for nor against it."""

    calibration: Calibration
    threshold: float
    """Least probability of a chosen image."""

    counts: Counts
    expected: Expected
    rivals: tuple[Rival, ...]
    """Most frequent first."""

    truth: Truth | None
    """None where the data has neither labels nor captions, or none that names the concept."""

    images: tuple[FoundImage, ...]
    """In the order of the data."""

    quarantine: tuple[str, ...]
    """Images that could not be read, with the reason."""
