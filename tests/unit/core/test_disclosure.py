"""What still leaks follows from the facts about an edit, sentence by sentence."""

import subprocess
import sys

import pytest

from clip_unlearn.core.disclosure import KINDS, leaks
from clip_unlearn.core.record import Reach

IMAGE = Reach(towers=("image",), depth="readout")
BOTH = Reach(towers=("image", "text"), depth="readout")
DEEP = Reach(towers=("text",), depth="encoder")

ALWAYS = ("made before the edit", "disclose what was forgotten", "not listed may still work")


def said(reach: Reach | None, edit: str = "suppress") -> str:
    return "\n".join(leaks(reach, edit))


@pytest.mark.parametrize("reach", [IMAGE, BOTH, DEEP, None])
@pytest.mark.parametrize("edit", ["suppress", "erase"])
@pytest.mark.parametrize("phrase", ALWAYS)
def test_what_every_edit_leaks(reach, edit, phrase):
    assert phrase in said(reach, edit)


def test_the_base_model_comes_first_and_by_what_is_handed_out():
    assert leaks(IMAGE, "suppress")[0].startswith("The base model is unchanged: whoever has it has the class")
    assert leaks(IMAGE, "erase")[0].startswith("Copies of the base model that were published")


@pytest.mark.parametrize(
    ("phrase", "there", "missing"),
    [
        ("Only the last layer was changed", (IMAGE, BOTH), (DEEP, None)),
        ("Stable Diffusion 1.x", (IMAGE, BOTH), (DEEP, None)),
        ("a last layer that is fitted again on other data brings it back", (IMAGE, BOTH), (DEEP, None)),
        ("Layers below the last one were changed", (DEEP,), (IMAGE, None)),
        ("Only the image side", (IMAGE,), (BOTH, DEEP, None)),
        ("Only the text side", (DEEP,), (IMAGE, BOTH, None)),
        ("can be inverted", (Reach(towers=("image",), depth="readout", invertible=True),), (IMAGE, DEEP, None)),
        ("is not recorded", (None,), (IMAGE, DEEP)),
    ],
)
def test_what_only_some_edits_leak(phrase, there, missing):
    assert all(phrase in said(reach) for reach in there)
    assert not any(phrase in said(reach) for reach in missing)


def test_an_empty_patch_leaks_everything():
    assert leaks(Reach(), "suppress") == ("Nothing was changed: the class is in the model as before.",)


def test_both_kinds_are_explained_without_a_promise():
    assert KINDS["suppress"].startswith("suppress: a patch beside an unchanged base model")
    assert KINDS["erase"].startswith("erase: a checkpoint handed out alone")
    assert "was not shown" in KINDS["erase"]


def test_sentences_end_and_are_said_once():
    for reach in (IMAGE, BOTH, DEEP, None, Reach()):
        for edit in ("suppress", "erase"):
            lines = leaks(reach, edit)
            assert len(set(lines)) == len(lines)
            assert all(line.endswith(".") for line in lines)


def test_it_does_not_reach_torch():
    code = "import sys, clip_unlearn.core.disclosure, clip_unlearn.core.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
