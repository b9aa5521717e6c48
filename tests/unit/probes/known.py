"""Models of which is known what they hold, for tests of audits."""

from collections.abc import Sequence
from functools import cache

from clip_unlearn.core.audit import Audit
from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts.expand import common_nouns
from clip_unlearn.sandbox.classes import CLASS_NAMES

DATA, SUPPORT = "sandbox:photo@audit", "sandbox:photo@select"
REQUEST = Request(
    forget=(Concept(name="mug"),),
    retain=tuple(name for name in CLASS_NAMES if name != "mug"),
    background=common_nouns(without=["mug", *CLASS_NAMES])[:100],
)


@cache
def original() -> Model:
    return open_model("sandbox")


@cache
def shallow() -> Model:
    """Return the model after an edit of its last image layer, which holds the class below."""
    return Redirect().forget(original(), REQUEST).folded(original()).apply(original())


@cache
def ignorant() -> Model:
    """Return a model that never saw the class."""
    return open_model("oracle-mug-0")


@cache
def readings(audit: Audit, after: str) -> tuple[Reading, ...]:
    model = {"shallow": shallow, "ignorant": ignorant, "original": original}[after]()
    return audit.measure(original(), model, REQUEST)


def value(found: Sequence[Reading], name: str, subject: str, of: str | None = None) -> float:
    """Return the one value with these labels."""
    (chosen,) = (one for one in found if (one.name, one.subject) == (name, subject) and of in (None, one.of))
    return chosen.value
