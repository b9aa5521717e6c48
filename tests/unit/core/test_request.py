"""Requests: names are cleaned, and every contradiction is said with its way out."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from clip_unlearn.core.request import NAME_LIMIT, Concept, Evidence, Request, clean_name, key
from clip_unlearn.errors import RequestError


def ask(*forget: str, **rest: object) -> Request:
    return Request(forget=tuple(Concept(name=name) for name in forget), **rest)


CONTRADICTIONS = {
    "Nothing to forget. Name at least one class with --forget NAME.": lambda: ask(),
    "'Cat' stands twice in the forget list. Remove one.": lambda: ask("cat", "Cat"),
    "'tea_pot' stands twice in the retain list. Remove one.": lambda: ask("x", retain=("tea pot", "tea_pot")),
    "'cat' is to be forgotten and to be retained. Remove it from one of the lists.": lambda: ask(
        "cat", retain=("CAT",)
    ),
    "'kitty' is to be forgotten and to be retained. Remove it from one of the lists.": lambda: Request(
        forget=(Concept(name="cat", synonyms=("kitty",)),), retain=("Kitty",)
    ),
    "'kitty' stands twice in the forget list. Remove one.": lambda: Request(
        forget=(Concept(name="cat", synonyms=("kitty", "kitty")),)
    ),
    "No template. Give at least one sentence with {} where the name goes.": lambda: ask("cat", templates=()),
    "Template 'a photo' must contain {} exactly once, where the name goes.": lambda: ask("cat", templates=("a photo",)),
    "Template '{} {}' must contain {} exactly once, where the name goes.": lambda: ask("cat", templates=("{} {}",)),
    "A name is empty. Give every class a name.": lambda: ask(" \u00a0"),
}


@pytest.mark.parametrize("message", CONTRADICTIONS)
def test_a_contradiction_is_said_with_its_way_out(message):
    with pytest.raises(RequestError) as caught:
        CONTRADICTIONS[message]()
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["a\tb", "a\nb", "a\0b", "a{}b", "{", "\x7f"])
def test_control_characters_and_braces_are_refused(name):
    with pytest.raises(RequestError, match=r"holds control characters or braces\. Remove them\.$"):
        clean_name(name)


def test_long_names_are_refused_in_short():
    assert clean_name("x" * NAME_LIMIT) == "x" * NAME_LIMIT
    with pytest.raises(RequestError, match=r"^Name 'x{40}\.\.\.' has 201 characters"):
        clean_name("x" * (NAME_LIMIT + 1))


@pytest.mark.parametrize(("given_name", "cleaned"), [(" a  b ", "a b"), ("e\u0301", "\u00e9"), ("A_b", "A_b")])
def test_names_lose_outer_and_double_spaces(given_name, cleaned):
    assert clean_name(given_name) == cleaned
    assert Concept(name=given_name, synonyms=(f"{given_name}x",)).names[0] == cleaned
    assert ask("other", retain=(given_name,)).retain == (cleaned,)


@given(name=st.text(max_size=30))
def test_cleaning_twice_is_cleaning_once(name):
    try:
        once = clean_name(name)
    except RequestError:
        return
    assert clean_name(once) == once
    assert key(once) == key(name)


@pytest.mark.parametrize("other", ["TEA POT", "tea_pot", " tea  pot ", "Tea_Pot"])
def test_spellings_of_one_name_have_one_key(other):
    assert key(other) == key("tea pot")


def test_keys_keep_names_apart():
    assert key("teapot") != key("tea pot")
    assert key("Straße") == key("STRASSE")


def test_sentences_go_name_by_name():
    request = ask("cat", templates=("a {}.", "one {}"))
    assert request.sentences(["cat", "dog"]) == ("a cat.", "one cat", "a dog.", "one dog")


def test_a_template_may_hold_other_braces():
    assert ask("cat", templates=("{} {0} {x}",)).sentences(["cat"]) == ("cat {0} {x}",)


@pytest.mark.parametrize("seed", [-1, 2**31, "x"])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        ask("cat", seed=seed)


def test_json_brings_the_same_request_back():
    request = ask("cat", "tea pot", retain=("dog",), seed=3, evidence=Evidence(where="sandbox", digest="0" * 64))
    assert Request.model_validate_json(request.model_dump_json()) == request
    assert Request(**request.model_dump(mode="json")).digest == request.digest


def test_every_part_counts_in_the_digest():
    first = ask("cat", retain=("dog",))
    others = [
        ask("cat"),
        ask("cat", retain=("bird",)),
        ask("cat", retain=("dog",), seed=1),
        ask("dog", retain=("cat",)),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize("text", ["mug | beaker | cup", "mug|beaker|cup", " mug  |beaker |  cup"])
def test_a_concept_can_be_written_in_one_line(text):
    concept = Concept(name="mug", synonyms=("beaker", "cup"))
    assert Concept.model_validate(text) == concept
    assert Request.model_validate({"forget": [text]}).forget == (concept,)
    assert Request.model_validate({"forget": ["mug"]}).forget_names == ("mug",)


def test_a_name_that_is_no_unicode_is_refused():
    with pytest.raises(RequestError, match="is not proper Unicode. Give it in UTF-8"):
        clean_name("mug\udcff")
