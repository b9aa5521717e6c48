"""The list of nouns and their other names."""

import re
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.core.request import Concept, Request
from clip_unlearn.prompts import thesaurus
from clip_unlearn.prompts.wordings import plural

SYNONYMS = [
    ("sofa", "couch"),
    ("sofa", "settee"),
    ("airplane", "aeroplane"),
    ("axe", "ax"),
    ("backpack", "rucksack"),
    ("bicycle", "bike"),
    ("bucket", "pail"),
    ("car", "automobile"),
    ("cell phone", "mobile phone"),
    ("chimpanzee", "chimp"),
    ("corn", "maize"),
    ("cougar", "mountain lion"),
    ("crayfish", "crawfish"),
    ("diaper", "nappy"),
    ("donkey", "burro"),
    ("doughnut", "donut"),
    ("eggplant", "aubergine"),
    ("elevator", "lift"),
    ("eyeglasses", "spectacles"),
    ("faucet", "tap"),
    ("fire engine", "fire truck"),
    ("flashlight", "electric torch"),
    ("french fries", "fries"),
    ("frying pan", "skillet"),
    ("garbage can", "dustbin"),
    ("harmonica", "mouth organ"),
    ("hippopotamus", "hippo"),
    ("killer whale", "orca"),
    ("ladybug", "ladybird"),
    ("lawn mower", "lawn-mower"),
    ("lychee", "litchi"),
    ("motorcycle", "motorbike"),
    ("necktie", "tie"),
    ("pajamas", "pyjamas"),
    ("panda", "giant panda"),
    ("platypus", "duckbill"),
    ("rabbit", "bunny"),
    ("refrigerator", "fridge"),
    ("rhinoceros", "rhino"),
    ("saxophone", "sax"),
    ("starfish", "sea star"),
    ("streetcar", "tram"),
    ("sweater", "jumper"),
    ("television", "tv"),
    ("tire", "tyre"),
    ("trousers", "pants"),
    ("truck", "lorry"),
    ("umbrella", "brolly"),
    ("violin", "fiddle"),
    ("wildebeest", "gnu"),
    ("wrench", "spanner"),
    ("zucchini", "courgette"),
]

NEIGHBOURS = [
    ("sofa", "armchair"),
    ("cup", "mug"),
    ("cup", "glass"),
    ("crab", "lobster"),
    ("lobster", "crayfish"),
    ("lion", "tiger"),
    ("leopard", "cheetah"),
    ("leopard", "jaguar"),
    ("alligator", "crocodile"),
    ("dolphin", "whale"),
    ("frog", "toad"),
    ("turtle", "tortoise"),
    ("rabbit", "hare"),
    ("mouse", "rat"),
    ("donkey", "mule"),
    ("moose", "elk"),
    ("llama", "alpaca"),
    ("crow", "raven"),
    ("pigeon", "dove"),
    ("butterfly", "moth"),
    ("bee", "wasp"),
    ("violin", "cello"),
    ("trumpet", "trombone"),
    ("guitar", "banjo"),
    ("piano", "accordion"),
    ("bicycle", "motorcycle"),
    ("car", "van"),
    ("bus", "streetcar"),
    ("boat", "ship"),
    ("lemon", "lime"),
    ("orange", "mandarin orange"),
    ("shovel", "spade"),
    ("fork", "spoon"),
    ("shoe", "boot"),
    ("church", "cathedral"),
    ("rifle", "shotgun"),
    ("chair", "stool"),
]


def test_the_list_is_long_sorted_and_plain() -> None:
    heads = [names[0] for names in thesaurus.senses()]
    assert 1000 <= len(heads) <= 1250
    assert heads == sorted(heads)
    assert sum(len(names) > 1 for names in thesaurus.senses()) > 400
    for names in thesaurus.senses():
        assert len(names) <= 7
        assert all(re.fullmatch(r"[a-z]+([ '-]+[a-z]+)*", name) for name in names), names


def test_no_name_stands_in_two_lines_however_it_is_spelt() -> None:
    spellings = [form for names in thesaurus.senses() for form in {thesaurus.spelling(name) for name in names}]
    assert len(spellings) == len(set(spellings))
    names = [name for line in thesaurus.senses() for name in line]
    assert len(names) == len(set(names))


def test_no_noun_is_the_plural_of_another() -> None:
    heads = {names[0] for names in thesaurus.senses()}
    assert not heads & {plural(head) for head in heads}
    assert not heads & {f"{head}{end}" for head in heads for end in ("s", "es")}


def test_every_line_is_a_concept_that_can_be_forgotten() -> None:
    for names in thesaurus.senses():
        concept = Concept.model_validate(" | ".join(names))
        assert concept.names == names
        assert Request(forget=(concept,)).forget_names == names[:1]


def test_synonymy_is_symmetric_and_joins_the_whole_line() -> None:
    for names in thesaurus.senses():
        for one, other in permutations(names, 2):
            assert other in thesaurus.synonyms(one)
        assert all(set(thesaurus.synonyms(name)) == set(names) - {name} for name in names)


@pytest.mark.parametrize(("one", "other"), SYNONYMS)
def test_other_names(one: str, other: str) -> None:
    assert one in thesaurus.synonyms(other)
    assert other in thesaurus.synonyms(one)


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
def test_neighbours_are_no_synonyms(one: str, other: str) -> None:
    heads = {names[0] for names in thesaurus.senses()}
    assert {one, other} <= heads
    assert other not in thesaurus.synonyms(one)
    assert one not in thesaurus.synonyms(other)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Sofa", ("couch", "settee")),
        ("SOFAS", ("sofa", "couch", "settee")),
        ("wolves", ("wolf", "grey wolf", "gray wolf")),
        ("firemen", ("firefighter", "fireman")),
        ("penknives", ("penknife", "pocketknife", "pocket knife")),
        ("babies", ("baby", "infant")),
        ("headphone", ("headphones",)),
        ("t_shirt", ("t-shirt", "tee shirt")),
        ("T shirts", ("t-shirt", "tee shirt", "t shirt")),
        ("sea-horse", ("seahorse", "sea horse")),
        ("doll’s house", ("dollhouse", "doll's house", "dolls' house")),
        ("glasses", ("eyeglasses", "spectacles", "specs")),
        ("caves", ("cave",)),
        ("skies", ("sky",)),
        ("fires", ("fire",)),
        ("giraffe", ("camelopard",)),
        ("pelican", ()),
        ("thing of no list", ()),
        ("", ()),
    ],
)
def test_spellings_and_plurals_find_the_line(asked: str, found: tuple[str, ...]) -> None:
    assert thesaurus.synonyms(asked) == found


@given(st.sampled_from(thesaurus.senses()).flatmap(st.sampled_from), st.sampled_from(["", "s", "es"]))
def test_every_name_and_its_plural_take_the_line_away(name: str, ending: str) -> None:
    left = thesaurus.without_same([f"{name.upper()}{ending}"])
    assert all(name not in names for names in left)


@given(st.text(max_size=12))
def test_any_text_may_be_asked_for(text: str) -> None:
    names = thesaurus.synonyms(text)
    assert names == () or any(set(names) <= set(line) for line in thesaurus.senses())
    assert set(thesaurus.without_same([text])) <= set(thesaurus.senses())


def test_without_nothing_is_everything() -> None:
    assert thesaurus.without_same([]) == thesaurus.senses()
