"""What every evaluation and audit is: a measurement of two models with intervals."""

import abc
from typing import ClassVar

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.core.work import Size, Work

Readings = tuple[Reading, ...]


class Probe(Config, abc.ABC):
    """A measurement. Abstract or final: a probe is subclassed once and never again."""

    needs_images: ClassVar[bool] = True
    """Whether it measures on images, so that it is skipped, with a reason, in a run without data."""

    needs_labels: ClassVar[bool] = True
    """Whether its images must have class labels; where they have captions alone it is skipped, with a reason."""

    needs_others: ClassVar[bool] = False
    """Whether it measures on other data, in a field `others`, so that it is skipped, with a reason, without any."""

    data: str = ""
    """Data source that the probe measures on, as `open_data` understands it; must not overlap with the evidence."""

    def work(self, before: Model, after: Model, size: Size) -> Work:
        """Return about how much a measurement takes beyond embedding all images once by both models."""
        return Work(names=size.names)

    @abc.abstractmethod
    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return readings of both models and their paired change, each with interval, count and direction."""
