"""Template sets and common nouns."""

from pathlib import Path

import pytest

from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import DataError, UnknownNameError
from clip_unlearn.prompts import expand, thesaurus


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


def left_out(*names: str) -> set[str]:
    return set(expand.common_nouns()) - set(expand.common_nouns(without=names))


def test_common_nouns_are_the_first_names_of_the_lines() -> None:
    assert expand.common_nouns() == tuple(names[0] for names in thesaurus.senses())
    assert len(set(expand.common_nouns())) >= 1000


@pytest.mark.parametrize(
    ("forgotten", "gone"),
    [
        (["mug"], {"mug"}),
        (["couch"], {"sofa"}),
        (["Settees"], {"sofa"}),
        (["wolves"], {"wolf"}),
        (["tshirt"], {"t-shirt"}),
        (["Dogs", "steam train"], {"dog", "hot dog", "train"}),
        (["bear"], {"bear", "polar bear", "teddy bear"}),
        (["bears"], {"bear", "polar bear", "teddy bear"}),
        (["polar_bear"], {"bear", "polar bear"}),
        (["ice bear"], {"bear", "ice", "polar bear"}),
        (["grizzly bear"], {"bear"}),
        (["phone"], {"cell phone", "telephone"}),
        (["telephone"], {"cell phone", "telephone"}),
        (["lantern"], {"jack-o'-lantern", "lantern"}),
        (["cup"], {"cup"}),
        (["teacup"], {"teacup"}),
        (["tiger"], {"tiger"}),
        (["eyeglasses"], {"eyeglasses"}),
        (["glasses"], {"eyeglasses", "glass", "magnifying glass", "wine glass"}),
        (["koala bear"], {"bear", "koala"}),
        (["thing of no list"], set()),
    ],
)
def test_common_nouns_leave_out_what_is_to_be_forgotten(forgotten: list[str], gone: set[str]) -> None:
    assert left_out(*forgotten) == gone


def test_several_names_leave_out_what_each_of_them_does() -> None:
    assert left_out("couch", "bear") == left_out("couch") | left_out("bear")


def test_common_nouns_and_a_concept_make_a_request() -> None:
    for names in thesaurus.senses():
        kept = expand.common_nouns(without=names[1:] or names)
        assert names[0] not in kept
    Request(
        forget=(Concept(name="couch", found=thesaurus.synonyms("couch")),),
        retain=expand.common_nouns(without=["couch"]),
    )
