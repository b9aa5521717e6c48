"""What labels and captions say about found images."""

import pytest
import torch
from PIL import Image

from clip_unlearn.core.request import Concept
from clip_unlearn.data.images import ImageSet
from clip_unlearn.maths.intervals import wilson
from clip_unlearn.runs.find_truth import truth_of
from clip_unlearn.runs.found import Truth

CLASSES = ("Sofas", "cat", "settee")
LABELS = (0, 0, 1, 1, 2, 1)
CAPTIONS = (
    ("a big couch", "nothing"),
    ("two sofas in a room",),
    ("a cat", "a cat on the Sofa."),
    ("a sofabed",),
    (),
    ("a dog",),
)


def images_with(*, labels: bool = False, captions: bool = False, classes: tuple[str, ...] = CLASSES) -> ImageSet:
    return ImageSet(
        where="here",
        keys=tuple("abcdef"),
        classes=classes if labels else (),
        labels=LABELS if labels else (),
        captions=CAPTIONS if captions else (),
        picture=lambda _: Image.new("RGB", (2, 2)),
        content=str,
    )


def truth(images: ImageSet, name: str = "sofa", *, kept: tuple[int, ...] = (0, 1, 2, 3, 4, 5), chosen="ttffff"):
    picked = torch.tensor([letter == "t" for letter in chosen])
    scores = torch.linspace(0.9, 0.1, len(kept), dtype=torch.float64)
    return truth_of(images, Concept.model_validate(name), kept, picked, scores)


def test_by_labels_under_any_name_or_spelling() -> None:
    found: Truth = truth(images_with(labels=True, classes=("SOFA", "cat", "settee")), chosen="ttttff")
    assert (found.by, found.images) == ("labels", 3)
    assert (found.precision.value, found.precision.count) == (2 / 4, 4)
    assert (found.recall.value, found.recall.count) == (2 / 3, 3)
    assert (found.precision.low, found.precision.high) == wilson(2, 4)
    assert (found.recall.low, found.recall.high) == wilson(2, 3)
    assert found.average_precision == pytest.approx((1 + 1 + 3 / 5) / 3)


def test_a_class_called_by_the_users_synonym() -> None:
    assert truth(images_with(labels=True), "thing") is None
    assert truth(images_with(labels=True), "thing | cat").images == 3
    assert truth(images_with(labels=True), "dog") is None


def test_only_readable_images_count() -> None:
    found = truth(images_with(labels=True, classes=("sofa", "cat", "settee")), kept=(1, 3, 4), chosen="ttf")
    assert found.images == 2
    assert (found.precision.value, found.recall.value) == (0.5, 0.5)
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_by_captions_as_whole_words() -> None:
    """Synonyms and plurals count; "sofabed" does not, nor does an image without captions."""
    found = truth(images_with(captions=True))
    assert (found.by, found.images) == ("captions", 3)
    assert found.precision.value == 1
    assert found.recall.value == pytest.approx(2 / 3)
    assert found.average_precision == 1


def test_labels_come_before_captions() -> None:
    assert truth(images_with(labels=True, captions=True, classes=("sofa", "cat", "x"))).by == "labels"


def test_nothing_says_what_is_true() -> None:
    assert truth(images_with()) is None
    assert truth(images_with(captions=True), "horse") is None
    assert truth(images_with(captions=True), chosen="ffffff") is None
