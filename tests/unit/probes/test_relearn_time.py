"""Steps of learning a class again, of models of which is known what they hold."""

from pathlib import Path

import pytest
from known import DATA, REQUEST, SUPPORT, original, readings, shallow, value
from painted import paint

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.pairs import retained_pairs
from clip_unlearn.errors import UndefinedError
from clip_unlearn.probes.audit._few import open_examples
from clip_unlearn.probes.audit._scene import open_scene
from clip_unlearn.probes.audit.relearn_time import RelearnTime

AGAIN = RelearnTime(data=DATA, support=SUPPORT, shots=4, draws=1, rates=(1e-2,), steps=10, batch=32)
NAME = "4-shot relearning steps, all layers"


def test_a_hidden_class_is_learned_again_sooner_than_one_never_known() -> None:
    hidden, ignorant = readings(AGAIN, "shallow"), readings(AGAIN, "ignorant")
    assert 0 < value(hidden, NAME, "after") < value(ignorant, NAME, "after")
    assert value(hidden, f"relearned in time, {NAME}", "after") == 1


def test_what_is_not_learned_in_time_takes_one_more_than_all_steps() -> None:
    found = readings(RelearnTime(**{**AGAIN.model_dump(), "steps": 2}), "ignorant")
    assert value(found, NAME, "after") == 3
    assert [value(found, f"relearned in time, {NAME}", subject) for subject in ("before", "after")] == [1, 0]


def test_nothing_is_to_be_learned_where_nothing_was_forgotten() -> None:
    found = readings(AGAIN, "original")
    assert [value(found, NAME, subject) for subject in ("before", "after", "change")] == [0, 0, 0]


def test_steps_are_counted_by_looks_and_the_fastest_rate_counts() -> None:
    scene = open_scene(DATA, "audit", REQUEST)
    examples = open_examples(SUPPORT, scene, shots=4, most=4)
    pairs = retained_pairs(shallow(), REQUEST, examples.images, range(len(examples.images)))
    assert AGAIN._first(pairs, scene, 1e-2, 0.0, before=11) == 2
    assert AGAIN._first(pairs, scene, 1e-2, 2.0, before=5) is None
    assert AGAIN._first(pairs, scene, 1e-2, 0.0, before=2) is None
    two = RelearnTime(**{**AGAIN.model_dump(), "rates": (1e-6, 1e-2)})
    assert value(two.measure(original(), shallow(), REQUEST), NAME, "after") == value(
        readings(AGAIN, "shallow"), NAME, "after"
    )


def test_the_original_recognises_nothing(painter: Model, tmp_path: Path) -> None:
    where = paint(tmp_path / "photos", {"red": ["green"], "green": ["green"]})
    teach = paint(tmp_path / "teach", {"red": ["red"] * 5, "green": ["green"] * 5}, mark=9)
    asked = Request(forget=(Concept(name="red"),), retain=("green",))
    with pytest.raises(UndefinedError, match="recognises none"):
        RelearnTime(data=where, split="all", support=teach, shots=5).measure(painter, painter, asked)
