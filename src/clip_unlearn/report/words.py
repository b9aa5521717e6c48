"""The fixed words of a report: what each reading means, and what the numbers can and cannot carry."""

from typing import Final

from clip_unlearn.core.record import Record

HINTS: Final = {
    "forget accuracy": "pictures of the forgotten classes that are still named right; the edit wants this low",
    "synthetic forget accuracy": "pictures that the method made of them and held back that are still named right; what "
    "it stopped by",
    "synthetic minus real forget accuracy": "how far that is above the share of real pictures; below 0 it promised "
    "more than it kept",
    "retain accuracy": "pictures of all other classes that are named right; should stay",
    "neighbour accuracy": "pictures of the classes nearest to the forgotten ones; the first to suffer",
    "worst name accuracy": "the wording, of all that were tried, that still works best in the model; should be low",
    "forget top-5 accuracy": "right name among the first five; low means that it is not just the runner-up",
    "retain top-5 accuracy": "the same for all other classes; should stay",
    "forget mean reciprocal rank": "mean of 1/rank of the right name: 100 % when always first; the edit wants this low",
    "retain mean reciprocal rank": "the same for all other classes; should stay",
    "forget image-to-text recall@10": "forgotten pictures that find one of their captions among the first ten; should "
    "be low",
    "retain image-to-text recall@10": "the same for all other pictures; should stay",
    "forget text-to-image recall@10": "captions of forgotten pictures that find their picture among the first ten; "
    "should be low",
    "retain text-to-image recall@10": "the same for all other captions; should stay",
    "image drift": "mean cosine between the embeddings of other classes' pictures before and after; 1 is no drift",
    "text drift": "the same for their names; 1 is no drift",
    "over-forgetting AUC": "how often a picture of the class scores higher with its name than one of another class; at "
    "0.5 the name says nothing, far below it the edit shows",
    "average score": "what is left of the forgotten and what is lost of the rest, in one number; should be low",
    "predicted retain accuracy change": "what the budget was kept by, before anything was measured",
}
"""Known totals in the order in which a report shows them. Readings not named here follow, without a hint."""

CONTROL: Final = (
    "Each attack tries to bring the forgotten classes back. The control is a model that is known to hold them below an "
    "edit of the last layer. An attack has power where it brings back at least half of what the original recognised in "
    "the control; without power a low reading shows nothing, and with it only that this attack fails."
)
"""What a table of attacks says."""

RECOVERED: Final = (
    "The same attacks on models that never saw the class. The recovery ratio says where the edited model stands from "
    "them to the original: 0 as if it had never seen the class, 1 as if nothing had been done. Where reference and "
    "original are too close there is no ratio."
)
"""What a table of recovery ratios says."""

NOVEL: Final = (
    "Nobody retrained this model without the class. For attacks that are shown images of the class, what they teach of "
    "themselves stands in the place of such a model: the same attack on classes that the original does not know. So "
    "often it names their images right"
)
"""What stands before the classes that a model does not know."""

UNRECORDED_LEAKS: Final = (
    "Whoever holds the original weights has the original model. The edit takes nothing away from copies that were "
    "handed out before.",
    "The changed weights can disclose what was forgotten: the difference between both models points at it, and "
    "this report names it. Treat patch, record and report as confidentially as the request itself.",
    "The wordings that were tried are not all wordings. A description, another language or a misspelling that is "
    "not in the list may still work.",
)
"""What leaks whatever the edit is, for records that do not say what theirs leaks."""


def shows(record: Record) -> tuple[str, ...]:
    """Return what the numbers of this record support."""
    if not record.readings:
        return ("What was asked, and what was changed in the model. Nothing was measured in this run.",)
    lines = [
        "Both models answered the same questions with the same names to choose from, so the two columns differ by the "
        "edit alone.",
        "Each interval says where the true value may lie for material drawn in the same way, at 95 % confidence. The "
        "change is judged item by item; the smaller its p, the harder it is to explain by chance.",
        "The edited model was measured after its weights were rounded to the number format in which they are stored.",
    ]
    if record.data is not None:
        lines.append(
            "The pictures are named by a digest of their content (below), so the same measurement can be made again."
        )
    return tuple(lines)


def limits(record: Record) -> tuple[str, ...]:
    """Return what the numbers of this record do not support, in plain words."""
    lines = [
        "Suppression is not removal. A model that does not give an answer any more can still hold what it learned: "
        "further training, a look at inner layers or another way of asking may bring the answer back.",
        *(record.leaks or UNRECORDED_LEAKS),
        "The numbers hold for the data and the prompts named on this page. Other pictures, other tasks and models "
        "built on top of this one were not measured.",
    ]
    if not record.portable:
        lines.append(
            "The result is a checkpoint and a map beside it. Whoever loads the checkpoint without the map gets a model "
            "that has forgotten less, or nothing."
        )
    lines.append("This page is a measurement, not a certificate: it does not show that a duty to erase has been met.")
    return tuple(lines)
