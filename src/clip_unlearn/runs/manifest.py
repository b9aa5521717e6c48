"""Which synthetic pictures to make, and what is written down about them beside the pictures."""

from typing import Literal, final

from pydantic import Field

from clip_unlearn.core.config import Config
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Concept
from clip_unlearn.runs.recipe import ModelChoice
from clip_unlearn.synthesis.album import STANDARD
from clip_unlearn.synthesis.ascend import Ascent


@final
class Order(Config):
    """Which pictures to make."""

    model: ModelChoice
    """The model that makes them."""

    names: tuple[Concept, ...]
    """What they show; of a name with synonyms, the wordings take turns."""

    retain: tuple[str, ...] = ()
    """Other names, which pictures are told apart from; without any, about 1,200 common nouns."""

    count: int = Field(default=16, ge=1, le=10_000)
    """Pictures of each name."""

    steps: int = Field(default=STANDARD.steps, ge=1, le=10_000)
    """Most steps of a picture."""

    probability: float | None = Field(default=None, ge=0, lt=1)
    """Probability that a picture has to exceed; without one, what easy pictures of other names mostly reach."""

    templates: str = "photo"
    """Template set, file or sentence: how names are put when a picture is judged."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of noise and shifts."""


@final
class Threshold(Config):
    """Which probability accepted pictures exceed, and where that comes from."""

    value: float
    rule: Literal["given", "easiest retained name"]
    """The second: the 10 % quantile of what accepted pictures reach of that name, of those below, which reaches the
    most in the median; at most 0.99."""

    names: tuple[str, ...] = ()
    """The names that pictures were made of for it."""

    pictures: int = 0
    """Pictures of each of them."""


@final
class Made(Config):
    """How the pictures of one name came out."""

    name: str
    folder: str
    pictures: int
    accepted: int
    diversity: float | None
    """Mean cosine of the embeddings of two different accepted pictures, in [-1, 1]; 1 where all are the same to the
    model, None for fewer than two."""


@final
class Picture(Config):
    """One picture that was tried."""

    name: str
    file: str | None
    """Its file; None if it was not accepted."""

    accepted: bool
    probability: float
    """Of its name, among the class list."""

    steps: int


@final
class Manifest(Config):
    """What was made, from what, and how; equal orders on equal models give equal bytes."""

    schema_version: Literal[1] = 1
    version: str
    """Of this package."""

    model: Source
    order: Order
    threshold: Threshold
    classes: int
    """Number of names that every picture was judged among."""

    sentences: tuple[str, ...]
    """Templates of the classifier that judged."""

    prompts: tuple[str, ...]
    """What pictures were drawn towards, in turn."""

    settings: Ascent
    made: tuple[Made, ...]
    pictures: tuple[Picture, ...]
