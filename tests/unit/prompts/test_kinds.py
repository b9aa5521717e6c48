"""The list of wider and narrower words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.prompts import kinds, thesaurus
from clip_unlearn.prompts.expand import common_nouns

WORDS = sorted({word for wide, narrow in kinds.listed().items() for word in (wide, *narrow)})


def test_the_list_is_sorted_and_plain() -> None:
    lines = [f"{wide}: {', '.join(narrow)}" for wide, narrow in kinds.listed().items()]
    assert len(lines) > 120
    assert lines == sorted(lines)
    for wide, narrow in kinds.listed().items():
        assert list(narrow) == sorted(set(narrow)), wide
        assert wide not in narrow
    assert all(re.fullmatch(r"[a-z]+([ '-][a-z]+)*", word) for word in WORDS)


def test_every_word_is_a_noun_or_has_a_line_of_its_own() -> None:
    """Wider words that are no common noun are headings, such as "mammal"; they are other names of no noun either."""
    nouns, headings = set(common_nouns()), set(kinds.listed())
    assert set(WORDS) - headings <= nouns
    assert all(thesaurus.synonyms(word) == () for word in headings - nouns)
    spellings = [thesaurus.spelling(word) for word in WORDS]
    assert len(set(spellings)) == len(WORDS)


@pytest.fixture(scope="module")
def below() -> dict[str, set[str]]:
    """Return what is a kind of every word, by literal steps through the lines."""
    found = {}
    for word in WORDS:
        seen: set[str] = set()
        ahead = list(kinds.listed().get(word, ()))
        while ahead:
            other = ahead.pop()
            if other not in seen:
                seen.add(other)
                ahead += kinds.listed().get(other, ())
        found[word] = seen
    return found


def test_nothing_is_a_kind_of_itself(below: dict[str, set[str]]) -> None:
    """`narrower` and `wider` leave the word itself out, so they would not show it."""
    assert [word for word in WORDS if word in below[word]] == []
    assert sum(map(len, below.values())) > 800


def test_narrower_follows_all_lines(below: dict[str, set[str]]) -> None:
    for word in kinds.listed():
        assert kinds.narrower(word) == tuple(sorted(below[word]))


def test_wider_follows_them_up(below: dict[str, set[str]]) -> None:
    for word in WORDS[::2]:
        assert kinds.wider(word) == tuple(wide for wide in WORDS if word in below[wide])


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("dog", {"beagle", "puppy"}, {"cat", "wolf", "hot dog", "dog"}),
        ("animal", {"mammal", "dog", "puppy", "ladybug", "great white shark"}, {"tree", "teddy bear"}),
        ("vehicle", {"car", "taxi", "airliner", "kayak", "bicycle"}, {"tire", "road"}),
        ("fruit", {"apple", "raspberry"}, {"carrot"}),
    ],
)
def test_kinds_of_kinds(name: str, inside: set[str], outside: set[str]) -> None:
    found = set(kinds.narrower(name))
    assert inside <= found
    assert not outside & found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("puppy", ("animal", "dog", "mammal")),
        ("beagle", ("animal", "dog", "mammal")),
        ("canoe", ("boat", "vehicle", "watercraft")),
        ("ostrich", ("animal", "bird")),
        ("animal", ()),
        ("idea", ()),
        ("", ()),
    ],
)
def test_wider_words(name: str, found: tuple[str, ...]) -> None:
    assert kinds.wider(name) == found


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("DOGS", "dog"),
        ("bicycles", "bicycle"),
        ("bike", "bicycle"),
        ("puppies", "puppy"),
        ("T Shirts", "t-shirt"),
        ("children", "child"),
        ("couch", "sofa"),
        ("mammals", "mammal"),
        ("musical_instruments", "musical instrument"),
    ],
)
def test_a_name_is_found_by_its_synonyms_and_spellings(name: str, same: str) -> None:
    assert (kinds.narrower(name), kinds.wider(name)) == (kinds.narrower(same), kinds.wider(same))
    assert kinds.narrower(name) or kinds.wider(name)


@given(st.text(max_size=12))
def test_any_text_may_be_asked_for(name: str) -> None:
    assert set(kinds.narrower(name)) | set(kinds.wider(name)) <= set(WORDS)
