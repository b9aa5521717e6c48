"""What is left of the forgotten and what is lost of the rest, in one number: the score of the Lip paper."""

from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.probe import Probe, Readings
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.data.answers import answers, forget_indices, measured_images
from clip_unlearn.errors import UndefinedError
from clip_unlearn.maths.average_score import Outcome, average_score, average_score_interval
from clip_unlearn.probes.evaluate._hits import other_hits

FORGOTTEN = "the classes to forget"
RETAINED = "the other classes"


@final
class AverageScore(Probe):
    """Mean of what is left of the forgotten and what is lost of everything else; lower is better.

    [A_f'/A_f + max(0, (A_r - A_r')/A_r) + sum over other sets of max(0, (A - A')/A)] / (2 + number of other sets),
    with the accuracy before (A) and after (A') on the classes to forget, on the other classes of the same data, whose
    names and the forgotten ones all stand to choose from, and on each of the other data sets. 0 is the best; an edit
    that changes nothing has 1 / (2 + number of other sets), so scores compare only over equally many sets. The
    published score has three of them; the reading says how many it has. The interval is a bootstrap over the images
    of every set, paired and with a fixed seed.

    Source: Kravets and Namboodiri 2024, arXiv 2407.07485.
    """

    needs_images: ClassVar = True

    split: Literal["all", "stop", "select", "audit"] = "all"
    """Part of the data to measure on."""

    others: tuple[str, ...] = ()
    """The other data sources, as `open_data` understands them."""

    def measure(self, before: Model, after: Model, request: Request) -> Readings:
        """Return one reading; `of` says over how many other data sets.

        Raises:
            DataError: if the data has no labels or lacks a class to forget.
            UndefinedError: if a part has no images, or none of them was right before the edit.
        """
        images = measured_images(self.data, self.split, request)
        first, second = answers(before, images, request), answers(after, images, request)
        asked = torch.isin(first.labels, torch.tensor(forget_indices(images, request)))
        right = first.ranks == 1, second.ranks == 1
        forgotten = _outcome(FORGOTTEN, right[0][asked], right[1][asked])
        kept = [_outcome(RETAINED, right[0][~asked], right[1][~asked])]
        kept += [_outcome(where, *other_hits(before, after, request, where)) for where in self.others]
        low, high = average_score_interval(forgotten, kept)
        count = len(self.others)
        return (
            Reading(
                name="average score",
                value=average_score(forgotten, kept),
                low=low,
                high=high,
                count=sum(one.count for one in (forgotten, *kept)),
                better="low",
                of=f"{count or 'no'} other data set{'' if count == 1 else 's'}",
                interval="Bootstrap over images, paired",
            ),
        )


def _outcome(where: str, before: Tensor, after: Tensor) -> Outcome:
    if not bool(before.any()):
        raise UndefinedError(
            f"Of {len(before)} pictures of {where} none was named right before the edit, so there is no relative "
            "change. Give data that the model knows."
        )
    return Outcome(
        both=int((before & after).sum()),
        lost=int((before & ~after).sum()),
        gained=int((after & ~before).sum()),
        neither=int((~before & ~after).sum()),
    )
