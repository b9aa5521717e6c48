"""Template sets and word lists."""

from pathlib import Path

import pytest

from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError, UnknownNameError
from clip_unlearn.prompts import expand


@pytest.mark.parametrize("name", expand.template_sets())
def test_every_set_makes_a_valid_request(name: str) -> None:
    sentences = expand.templates(name)
    request = Request(forget=(Concept(name="mug"),), templates=sentences)
    assert len(set(sentences)) == len(sentences)
    assert all("mug" in sentence for sentence in request.sentences(["mug"]))


def test_imagenet_set_is_the_library_s_own() -> None:
    sentences = expand.templates(expand.IMAGENET)
    assert len(sentences) == 80
    assert "a bad photo of a {}." in sentences


def test_a_sentence_and_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("one {} here\n\n  the {} there \n")
    assert expand.templates("look: {}") == ("look: {}",)
    assert expand.templates(str(path)) == ("one {} here", "the {} there")


def test_errors_show_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("ein {} für mich".encode("latin-1"))
    with pytest.raises(UnknownNameError, match="Did you mean 'photo'"):
        expand.templates("foto")
    with pytest.raises(DataError, match="UTF-8"):
        expand.templates(str(path))


def test_common_nouns_leave_out_what_is_to_be_forgotten() -> None:
    everything = set(expand.common_nouns())
    assert len(everything) > 250
    assert set(everything) - set(expand.common_nouns(without=["Dogs", "steam train"])) == {"dog", "train"}
