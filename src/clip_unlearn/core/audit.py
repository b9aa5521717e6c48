"""What every attack on an edit is: a probe that tries to bring the forgotten back, and shows that it could."""

import abc
from typing import ClassVar, Literal, TypeAlias

from clip_unlearn.core.probe import Probe

Mechanism: TypeAlias = Literal["image head", "text head", "fine-tuning", "revert", "none"]
"""What an attack goes at. A grade above F2 needs one attack that has power for each but none."""


class Audit(Probe, abc.ABC):
    """An attack. Abstract or final: an audit is subclassed once and never again.

    One that goes at weights gives the accuracy on images of the forgotten classes: of the edited model under the
    attack ("after"), of the original without it ("before"), and under the same attack of a model that is known to hold
    the classes below an edit that hides them ("control"). Where the control stays under half of what the original had,
    the attack is without power on these data, and its low reading shows nothing (`core.attacks.has_power`).
    """

    code: ClassVar[str] = ""
    """Its short name in the guide: B with prompts and images alone, W with the weights, K with images of the class."""

    mechanism: ClassVar[Mechanism] = "none"
    """What it goes at."""

    support: str = ""
    """Data source with the images that the attack learns from; none of them may be measured on. Those of the classes
    to forget are left out."""
