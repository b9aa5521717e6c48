"""Zero-shot accuracy on other labelled images, which have nothing to do with what is forgotten."""

from typing import ClassVar, Literal, final

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.readings import shares
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.probes.evaluate._hits import other_hits


@final
class OtherData(Probe):
    """Top-1 accuracy on each of the other data sets, over all class names of that set; should stay.

    Pictures of what is to be forgotten do not count where another set shows them too, but its name is still among
    those to choose from. Wilson intervals; Bonett-Price and McNemar for changes.
    """

    needs_images: ClassVar = False
    needs_others: ClassVar = True

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the main data; nothing is measured on it here."""

    others: tuple[str, ...] = ()
    """The other data sources, as `open_data` understands them."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return the accuracy on each set, before, after and paired.

        Raises:
            DataError: if a set has no labels, or shows nothing but what is to be forgotten.
        """
        readings: list[Reading] = []
        for where in self.others:
            readings.extend(shares("other data accuracy", *other_hits(before, after, request, where), "high", of=where))
        return tuple(readings)
