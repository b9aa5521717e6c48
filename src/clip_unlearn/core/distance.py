"""How far the models that a method edits are from models that never saw the class. Torch-free."""

from typing import final

from clip_unlearn.core.config import Config


@final
class Estimate(Config):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@final
class Distance(Config):
    """A method against one sort of never-taught models of the lab.

    Beside each figure stands what it is of two such models with different seeds: no method can be expected to come
    nearer than they are to each other.
    """

    sort: str
    """`unseen` or `word`."""

    count: int
    """Edited models, and as many that never saw the class."""

    kolmogorov_smirnov: Estimate
    """Largest distance of the distributions of the class's log odds on its pictures; the mean over pairs of models."""

    kolmogorov_smirnov_floor: Estimate
    """The same of two models that never saw the class."""

    tug_of_war: Estimate
    """(1 - |difference of accuracy|) on pictures of the class times that on the others; the mean over pairs."""

    tug_of_war_floor: Estimate
    """The same of two models that never saw the class."""

    unlearning_score: Estimate
    """NoMUS: half the accuracy on the others, half how little tells pictures that were taught from new ones."""

    unlearning_score_floor: Estimate
    """The same of models that never saw the class: what it can be expected to be at best."""

    likelihood_ratio: Estimate
    """AUC of an attacker who tells edited from never-taught models by the log odds on every picture; 0.5 is none."""
