"""What an audit is worth, shown on models of which is known whether they hold a class. Torch-free."""

from typing import Final, final

from clip_unlearn.core.config import Config

ENOUGH: Final = 0.95
"""Least area under the ROC curve of an audit that grades use, against both sorts of models that never saw a class."""

MODELS: Final = 10
"""Least models of each sort behind such an area."""

ALARM: Final = 0.1
"""Upper end of a share from which a grade does not count the class as hidden."""


@final
class Separation(Config):
    """How an audit tells models that hold a class from one sort of models that never saw it."""

    mean: float
    """Mean of the reading over the models that never saw the class."""

    auc: float
    """P[knowing > never] + P[equal] / 2, over all pairs of models; 1 where the audit never confuses them."""

    low: float
    """Lower end of its 95 % interval."""

    high: float
    """Upper end of its 95 % interval."""

    alarms: int | None = None
    """Models that never saw the class and of which a grade would not believe it: the upper end of the reading is above
    10 %. None where the reading is not what a grade has a limit for."""

    count: int
    """Models of this sort."""


@final
class Validation(Config):
    """The row of one reading of an audit."""

    audit: str
    """Name of the audit."""

    reading: str
    """Name of the reading, the largest attempt of several."""

    knowing: float | None
    """Mean over the models that hold the class, as they are; None where there is nothing to attack without an edit."""

    hidden: float | None
    """Mean over the same with the class hidden behind a shallow edit (the audit's control); None without a control."""

    count: int
    """Models that hold the class."""

    unseen: Separation
    """Against models that never saw picture nor word; of the knowing as they are where that is defined, else hidden."""

    word: Separation
    """Against models that know the word, and never saw a picture."""

    @property
    def qualifies(self) -> bool:
        """Return whether a grade may use the audit: it separates both sorts, over enough models."""
        enough = min(self.count, self.unseen.count, self.word.count) >= MODELS
        return enough and min(self.unseen.auc, self.word.auc) >= ENOUGH
