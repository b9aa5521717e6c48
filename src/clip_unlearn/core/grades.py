"""How far a claim of forgetting may go, from readings alone. Torch-free.

F0  not forgotten
F1  suppressed for the tested prompt: at most 5 % of at least 100 images, and the others within 2 points
F2  suppressed across tested wordings: names in sentences, and among other words, at most 10 %
F3  not recoverable without examples of the class by the tested attacks: each at most 10 %, with power
F4  few-shot behaviour close to a reference: attacks shown 1 or 5 images, and how soon the class is learned again

Where models that never saw the class were measured too, a recovery ratio of at most 0.15 stands for the 10 %: such a
model does not always reach them, and no edit has to be emptier than a model that never saw the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from clip_unlearn.core.anamnesis import INDEX
from clip_unlearn.core.attacks import QUALIFIED, WORST, has_power
from clip_unlearn.core.record import Grade, GradeLine, GradeName, Reach, Reading, Subject
from clip_unlearn.core.recovery import RATIO
from clip_unlearn.maths.intervals import CONFIDENCE, clopper_pearson, wilson

PROMPT, WORDINGS, ATTACKS = 0.05, 0.1, 0.1
"""Largest upper ends of the share that is still recognised: by the tested prompt, by wordings, under attacks."""

LEFT: Final = 0.15
"""Largest upper end of the recovery ratio against a reference, where one was given: the class is as good as unseen."""

NEAR: Final = 0.25
"""Largest upper end of the recovery ratio of attacks that are shown images of the class."""

TIMES: Final = (0.5, 2.0)
"""Least and largest anamnesis index at which the class is learned again about as soon as by a reference."""

MARGIN: Final = 0.02
"""Largest loss of the other classes' accuracy that counts as none."""

IMAGES, NAMES, SENTENCES, SETS = 100, 20, 10, 3
"""Least images of the forgotten; least wordings, sentences of each, and sets of other words."""

WORDS: Final[dict[GradeName, str]] = {
    "F0": "not forgotten",
    "inconclusive": "too few images, or a share too near the limit",
    "F1": "suppressed for the tested prompt",
    "F2": "suppressed across tested wordings",
    "F3": "not recoverable without examples of the class (tested attacks)",
    "F4": "few-shot behaviour close to reference",
}
"""What may be said of each grade, and no more."""

MECHANISMS: Final[dict[str, str]] = {
    "image refit accuracy": "image head",
    "text refit accuracy": "text head",
    "fine-tuning accuracy": "fine-tuning",
    "module revert accuracy": "revert",
}
"""Attacks that need power, by what they go at."""

WITHOUT_CONTROL: Final = ("rounding accuracy", "interpolation accuracy")
"""Attacks that count whether they have power or not."""

FEW_SHOT: Final = (
    "1-shot probe accuracy, embedding",
    "5-shot probe accuracy, embedding",
    "1-shot prototype accuracy",
    "5-shot prototype accuracy",
    "1-shot soft prompt accuracy",
    "5-shot soft prompt accuracy",
)
"""Attacks that are shown images of the class, and count beside a reference alone. Whether such an attack tells models
apart is not taken from the lab: its ratio is there only where original and reference are apart on these very images."""

RELEARNING: Final = ("10-shot relearning steps, all layers", "5-shot relearning steps")
"""What is counted until the class is learned again, by all layers and by the last one."""

MOST: Final = 1_000_000
"""Number of images up to which is sought how many would be needed."""


@final
@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that a grade follows from."""

    readings: Sequence[Reading]
    reach: Reach | None = None
    qualified: frozenset[str] = QUALIFIED
    """Attacks that were shown to tell models that hold a class from models that never saw it."""

    def one(self, name: str, subject: Subject = "after") -> Reading | None:
        """Return the total of that name; of several the one of the largest value."""
        found = [one for one in self.readings if (one.name, one.subject) == (name, subject)]
        totals = [one for one in found if not one.of] or found
        return max(totals, key=lambda one: one.value, default=None)

    def ratio(self, name: str, what: str = RATIO) -> Reading | None:
        """Return the recovery ratio, or the index, of the attack of that name."""
        return next((one for one in self.readings if (one.name, one.of) == (what, name)), None)

    def count(self, name: str) -> int:
        """Return how many readings of that name there are of the edited model."""
        return sum((one.name, one.subject) == (name, "after") for one in self.readings)


def grade(evidence: Evidence) -> Grade:
    """Return the highest grade whose every line holds, and all lines.

    Inside a grade of m lines every interval is made at 1 - 0.05 / m, so that all of them hold at once.
    """
    groups: tuple[tuple[GradeName, tuple[GradeLine, ...]], ...] = (
        ("F1", (_prompt(evidence, 2), _others(evidence))),
        ("F2", (_names(evidence, 2), _vocabulary(evidence, 2))),
        ("F3", _attacks(evidence)),
        ("F4", (*(_few_shot(evidence, name) for name in FEW_SHOT), *(_again(evidence, name) for name in RELEARNING))),
    )
    reached: GradeName = _lowest(evidence)
    ceiling, why = _ceiling(evidence)
    for name, lines in groups:
        if reached == "F0" or not all(line.passed for line in lines) or name > ceiling:
            break
        reached = name
    return Grade(
        grade=reached,
        words=WORDS[reached],
        ceiling=ceiling,
        why=why,
        lines=tuple(line for _, lines in groups for line in lines),
    )


def images_needed(share: float, limit: float, *, confidence: float = CONFIDENCE) -> int | None:
    """Return the least number of images at which a share like this one would have its upper end at the limit.

    By Wilson's interval; None where no number would do, because the share itself is above the limit.
    """
    if share >= limit:
        return None
    low, high = 1, MOST
    if wilson(share * high, high, confidence=confidence)[1] > limit:
        return None
    while low < high:
        middle = (low + high) // 2
        if wilson(share * middle, middle, confidence=confidence)[1] <= limit:
            high = middle
        else:
            low = middle + 1
    return low


def _lowest(evidence: Evidence) -> GradeName:
    """Return F0 where it is shown that more than the limit is recognised, and otherwise that nothing is shown yet."""
    found = evidence.one("forget accuracy")
    if found is None:
        return "inconclusive"
    return "F0" if found.low > PROMPT or found.value > WORDINGS else "inconclusive"


def _prompt(evidence: Evidence, lines: int) -> GradeLine:
    found = evidence.one("forget accuracy")
    if found is None:
        return _line("F1", "the tested prompt", "was not measured")
    confidence = 1 - (1 - CONFIDENCE) / lines
    high = wilson(found.value * found.count, found.count, confidence=confidence)[1]
    why = f"{found.value:.1%} of {found.count} images, upper end {high:.1%}, at most {PROMPT:.0%}"
    needed = images_needed(found.value, PROMPT, confidence=confidence)
    if found.count < IMAGES or (high > PROMPT and needed is not None):
        why += f"; {max(IMAGES, needed or 0)} images are needed"
    return _line("F1", "the tested prompt", why, passed=high <= PROMPT and found.count >= IMAGES)


def _others(evidence: Evidence) -> GradeLine:
    found = evidence.one("retain accuracy", "change")
    if found is None:
        return _line("F1", "the other classes", "were not measured")
    why = f"changed by {100 * found.value:+.1f} points, lower end {100 * found.low:+.1f}, at least {-100 * MARGIN:.0f}"
    return _line("F1", "the other classes", why, passed=found.low >= -MARGIN)


def _names(evidence: Evidence, lines: int) -> GradeLine:
    found, names = evidence.one(f"{WORST}wording accuracy"), evidence.count("wording accuracy")
    if found is None or not names:
        return _line("F2", "other wordings", "were not tried")
    sentences = found.attempts // names
    passed, why = _worst(evidence, found, WORDINGS, lines)
    why = f"{names} names in {sentences} sentences: {why}"
    if names < NAMES or sentences < SENTENCES:
        why, passed = f"{why}; {NAMES} names in {SENTENCES} sentences are needed", False
    return _line("F2", "other wordings", why, passed=passed)


def _vocabulary(evidence: Evidence, lines: int) -> GradeLine:
    found = evidence.one(f"{WORST}vocabulary accuracy")
    if found is None:
        return _line("F2", "other words beside the name", "were not tried")
    passed, why = _worst(evidence, found, WORDINGS, lines)
    why = f"{found.attempts} sets: {why}"
    if found.attempts < SETS:
        why, passed = f"{why}; {SETS} sets are needed", False
    return _line("F2", "other words beside the name", why, passed=passed)


def _attacks(evidence: Evidence) -> tuple[GradeLine, ...]:
    lines = len(MECHANISMS) + len(WITHOUT_CONTROL)
    return tuple(_attack(evidence, name, lines) for name in (*MECHANISMS, *WITHOUT_CONTROL))


def _attack(evidence: Evidence, name: str, lines: int) -> GradeLine:
    what, found = f"attack: {name.removesuffix(' accuracy')}", evidence.one(f"{WORST}{name}")
    if found is None:
        return _line("F3", what, "was not made")
    passed, why = _worst(evidence, found, ATTACKS, lines)
    before, control = (evidence.one(f"{WORST}{name}", subject) for subject in ("before", "control"))
    if name in MECHANISMS and not (before and control and has_power(before, control)):
        return _line("F3", what, f"{why}; without power here, so it shows nothing")
    if name not in evidence.qualified:
        return _line("F3", what, f"{why}; descriptive only, because it was not shown to tell who holds a class")
    return _line("F3", what, why, passed=passed)


def _worst(evidence: Evidence, found: Reading, limit: float, lines: int) -> tuple[bool, str]:
    """Return whether the worst attempt is at the limit at most, or at what a reference has, and the figures."""
    hits = round(found.value * found.count)
    high = clopper_pearson(hits, found.count, tests=found.attempts, confidence=1 - (1 - CONFIDENCE) / lines)[1]
    why = f"{found.value:.1%} of {found.count} images, upper end {high:.1%}, at most {limit:.0%}"
    ratio = evidence.ratio(found.name[len(WORST) :])
    if ratio is None:
        return high <= limit, why
    why += f", or recovery ratio {ratio.value:.2f}, upper end {ratio.high:.2f}, at most {LEFT}"
    return high <= limit or ratio.high <= LEFT, why


def _few_shot(evidence: Evidence, name: str) -> GradeLine:
    """Return whether an attack that is shown the class brings back little more than of a reference.

    Where the reference is too close to the original for a ratio, the edited model may not be above the upper end of the
    reference, of several the mean of theirs.
    """
    what, found = f"few images: {name}", evidence.one(name)
    references = [one for one in evidence.readings if (one.name, one.subject) == (name, "reference")]
    if found is None or not references:
        return _line("F4", what, "was not made" if found is None else "no reference was measured")
    ratio = evidence.ratio(name)
    if ratio is not None:
        why = f"recovery ratio {ratio.value:.2f}, upper end {ratio.high:.2f}, at most {NEAR}"
        return _line("F4", what, why, passed=ratio.high <= NEAR)
    mean, high = (
        sum(ends) / len(references) for ends in zip(*((one.value, one.high) for one in references), strict=True)
    )
    why = f"reference too close for a ratio: {found.value:.1%}, of the reference {mean:.1%}, upper end {high:.1%}"
    return _line("F4", what, f"{why}, at most that", passed=found.value <= high)


def _again(evidence: Evidence, name: str) -> GradeLine:
    what, index, (least, most) = f"learned again: {name}", evidence.ratio(name, INDEX), TIMES
    if index is None:
        return _line("F4", what, "was not made, or has no index beside a reference")
    why = f"{INDEX} {index.value:.2f}, from {index.low:.2f} to {index.high:.2f}, wanted {least} to {most}"
    return _line("F4", what, why, passed=least <= index.value <= most)


def _ceiling(evidence: Evidence) -> tuple[GradeName, str]:
    if evidence.reach is not None and evidence.reach.depth in ("none", "readout"):
        return "F2", "only the last layer was changed, and fitting it again brings the class back"
    return "F4", "models retrained without the class, many of them, are compared in the lab and not in one record"


def _line(name: GradeName, what: str, why: str, *, passed: bool = False) -> GradeLine:
    return GradeLine(grade=name, what=what, passed=passed, why=why)
