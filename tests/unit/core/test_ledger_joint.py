"""One request from all live ones: the same whatever the order, and whatever was undone in between."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some
from ledger_samples import TIME, addition, header, undoing

from clip_unlearn.core.ledger import Addition, Entry, Header, Ledger, Payload
from clip_unlearn.core.ledger_chain import parse
from clip_unlearn.core.ledger_joint import joint_request, merged, overruled
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.errors import RequestError

# Few words in several spellings, so that requests clash in every way they can.
SPELLINGS = ("mug", "Mug", "MUG", "cup", "Cup", "tea_cup", "tea cup", "beaker", "car", "Car", "roadster", "dog", "cat")


@some.composite
def concept_lists(draw: some.DrawFn) -> tuple[Concept, ...]:
    """Return concepts that one request may hold: no name twice."""
    words = draw(some.lists(some.sampled_from(SPELLINGS), min_size=1, max_size=6, unique_by=key))
    concepts = []
    while words:
        size = draw(some.integers(1, len(words)))
        names, words = words[:size], words[size:]
        border = draw(some.integers(1, size))
        concepts.append(Concept(name=names[0], synonyms=tuple(names[1:border]), found=tuple(names[border:])))
    return tuple(concepts)


@some.composite
def requests(draw: some.DrawFn) -> list[Addition]:
    """Return requests with ids of their own."""
    made = []
    for number, concepts in enumerate(draw(some.lists(concept_lists(), min_size=1, max_size=6))):
        barred = {key(name) for concept in concepts for name in concept.names}
        words = draw(some.lists(some.sampled_from(SPELLINGS), max_size=3, unique_by=key))
        made.append(addition(f"R-{number}", *concepts, retain=tuple(word for word in words if key(word) not in barred)))
    return made


def ledger(payloads: list[Payload]) -> Ledger:
    """Return the ledger that a header and these entries make."""
    lines, last = [], None
    for payload in (header(background=("car", "tree")), *payloads):
        last = Entry.after(last, payload, time=TIME)
        lines.append(last.line)
    return parse(b"".join(lines), where="l")


def joint(head: Header, live: Sequence[Addition]) -> Request:
    """Return the joint request where no noun is related to another."""
    return joint_request(head, live, related=lambda names: ())


@given(requests(), some.data())
def test_only_which_requests_are_live_counts(made: list[Addition], data: some.DataObject) -> None:
    survivors = data.draw(some.lists(some.sampled_from(made), min_size=1, unique_by=lambda one: one.id))
    ends = [undoing(one.id) for one in made if one not in survivors]
    mixed: list[Payload] = list(data.draw(some.permutations(made)))
    for end in ends:
        after = 1 + next(place for place, one in enumerate(mixed) if getattr(one, "id", "") == end.id)
        mixed.insert(data.draw(some.integers(after, len(mixed))), end)
    one, other = ledger(mixed), ledger(data.draw(some.permutations(survivors)))
    assert joint(one.header, one.live) == joint(other.header, other.live)
    assert joint(one.header, one.live).digest == joint(other.header, other.live).digest
    assert overruled(one.header, one.live) == overruled(other.header, other.live)


@given(requests())
def test_every_name_is_forgotten_once_and_none_of_them_is_retained(made: list[Addition]) -> None:
    whole = joint(header(), made)
    asked = {key(name) for one in made for concept in one.concepts for name in concept.names}
    forgotten = [key(name) for concept in whole.forget for name in concept.names]
    assert sorted(forgotten) == sorted(asked)
    assert {key(name) for one in made for concept in one.concepts for name in (concept.name,)} == {
        key(name) for name in whole.forget_names
    }
    wished = {key(name) for one in made for name in one.retain} | {"cat", "dog"}
    assert {key(name) for name in whole.retain} == wished - asked
    assert {key(name) for name in overruled(header(), made)} == wished & asked


@given(concept_lists(), concept_lists())
def test_merging_again_changes_nothing(first: tuple[Concept, ...], second: tuple[Concept, ...]) -> None:
    once = merged((*first, *second))
    assert merged(once) == once == merged((*second, *first))
    Request(forget=once)


@pytest.mark.parametrize(
    ("given_concepts", "expected"),
    [
        (["mug | cup", "mug | beaker"], ["mug | beaker | cup"]),
        (["Mug", "mug"], ["Mug"]),
        (["mug | cup", "cup"], ["cup", "mug"]),
        (["mug | cup", "bowl | cup"], ["bowl | cup", "mug"]),
        (["mug | cup", "cup | mug"], ["cup", "mug"]),
        (["tea_cup", "tea cup | mug"], ["tea cup | mug"]),
        (["mug", "cat"], ["cat", "mug"]),
    ],
)
def test_how_names_are_merged(given_concepts: list[str], expected: list[str]) -> None:
    found = merged(Concept.model_validate(text) for text in given_concepts)
    assert found == tuple(Concept.model_validate(text) for text in expected)


def test_a_synonym_is_stronger_than_a_found_name() -> None:
    found, given_synonym = Concept(name="bowl", found=("cup", "dish")), Concept(name="mug", synonyms=("cup",))
    assert merged([found, given_synonym]) == (
        Concept(name="bowl", found=("dish",)),
        Concept(name="mug", synonyms=("cup",)),
    )


def test_the_background_loses_what_is_related_the_names_to_retain_only_the_name() -> None:
    words = ("car", "sports car", "cup", "tree")
    asked = [addition("R-1", "Sports_Car | mug")]
    seen = []

    def related(names: Sequence[str]) -> set[str]:
        seen.extend(names)
        return {"Car", "cup", "word of no list"}

    joint = joint_request(header(retain=words, background=words), asked, related=related)
    assert seen == ["Sports_Car", "mug"]
    assert joint.retain == ("car", "cup", "tree")
    assert joint.background == ("tree",)
    assert overruled(header(retain=words), asked) == ("sports car",)


def test_what_requests_retain_is_added_in_one_order() -> None:
    asked = [addition("R-1", "mug", retain=("tree", "Cat")), addition("R-2", "cup", retain=("Tree", "bowl"))]
    assert joint(header(), asked).retain == ("cat", "dog", "bowl", "Tree")
    assert joint(header(), asked[::-1]).retain == ("cat", "dog", "bowl", "Tree")


def test_the_rest_comes_from_the_header() -> None:
    whole = joint(header(templates=("one {}",), seed=7), [addition("R-1", "mug")])
    assert (whole.templates, whole.seed, whole.evidence) == (("one {}",), 7, None)


def test_nothing_live_is_no_request() -> None:
    with pytest.raises(RequestError, match="No request of the ledger is live"):
        joint(header(), [])
