"""What a concept is told apart from, with name embeddings made up for the purpose."""

import hashlib
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import SettingError
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts import thesaurus
from clip_unlearn.prompts.expand import common_nouns
from clip_unlearn.runs import find_names
from clip_unlearn.runs.find_names import Names

WIDTH = 64

Look = Callable[..., Names]


def vector(name: str) -> Tensor:
    """Return a direction of its own for every name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Return `names_of` with made-up embeddings; `near` puts names beside others, at so much of a distance."""

    def call(
        name: str,
        retain: Sequence[str] = (),
        background: str = "nouns",
        near: dict[str, tuple[str, float]] | None = None,
    ) -> Names:
        def place(one: str) -> Tensor:
            other, distance = (near or {}).get(one, (one, 0.0))
            return vector(other) + distance * vector(f"{one} itself") if distance else vector(other)

        def rows(_model: object, _request: Request, names: Sequence[str]) -> Tensor:
            return 3 * torch.stack([place(one) for one in names]) if names else torch.empty(0, 0, dtype=torch.float64)

        monkeypatch.setattr(find_names, "name_rows", rows)
        request = Request(forget=(Concept.model_validate(name),), retain=tuple(retain))
        return find_names.names_of(None, request, background)

    return call


def test_nouns_count_against_it_and_kinds_and_wider_words_do_not(look: Look) -> None:
    names = look("dog")
    assert {"cat", "wolf", "tree", "car"} <= set(names.others)
    assert {"dog", "puppy", "beagle", "hot dog"} <= set(names.neutral)
    assert not {"dog", "puppy", "beagle", "hot dog"} & set(names.others)
    assert sorted((*names.others, *names.neutral)) == sorted(common_nouns())
    assert list(names.neutral) == sorted(names.neutral)
    assert names.given == 0
    assert set(look("puppy").neutral) >= {"dog", "puppy"}
    assert "beagle" in look("puppy").others
    assert "car" in look("taxi | cab").neutral


def test_kinds_of_a_synonym_take_no_side(look: Look) -> None:
    assert "tricycle" in look("velocipede").others
    assert "tricycle" in look("velocipede | bike").neutral


def test_what_is_given_counts_always_and_first(look: Look) -> None:
    names = look("dog", ["Puppy", "thing of my own", "hot dog"])
    assert names.others[:3] == ("Puppy", "thing of my own", "hot dog")
    assert names.given == 3
    assert "puppy" not in (*names.others[3:], *names.neutral)
    assert "hot dog" not in (*names.others[3:], *names.neutral)
    assert len(names.others) == len(set(names.others))


def test_without_background_only_what_is_given_counts(look: Look) -> None:
    names = look("dog", ["cat", "puppy"], "none")
    assert (names.others, names.given, names.neutral) == (("cat", "puppy"), 2, ())


def test_rows_are_unit_and_in_the_order_of_the_names(look: Look) -> None:
    names = look("dog | hound", ["cat"])
    assert names.other_rows.dtype == names.own_rows.dtype == torch.float64
    for kept, rows in ((names.others, names.other_rows), (names.concept.names, names.own_rows)):
        written = torch.stack([vector(name) / vector(name).norm() for name in kept])
        assert torch.allclose(rows, written, rtol=0, atol=1e-12)


def test_nouns_that_the_model_does_not_tell_from_it_take_no_side(look: Look) -> None:
    """A cosine of 0.97 is a distance of about 0.25 beside it; also beside a synonym."""
    near = {"teapot": ("gizmo", 0.1), "castle": ("gizmo", 0.6), "ladder": ("thingy", 0.1)}
    names = look("gizmo | thingy", near=near)
    assert {"teapot", "ladder"} <= set(names.neutral)
    assert "castle" in names.others
    assert {"teapot", "ladder"} <= set(look("something").others)
    assert "teapot" in look("gizmo | thingy", ["teapot"], near=near).others, "given names count"


def test_synonyms_are_found_where_the_model_takes_them_for_the_name(look: Look) -> None:
    assert thesaurus.synonyms("sofa") == ("couch", "settee")
    names = look("sofa", near={"couch": ("sofa", 0.4)})
    assert names.concept == Concept(name="sofa", found=("couch",))
    assert names.own_rows.shape == (2, WIDTH)
    assert look("sofa").concept.found == ()
    assert look("sofa").own_rows.shape == (1, WIDTH)
    given = look("sofa | couch", near={"couch": ("sofa", 0.4), "settee": ("sofa", 0.4)})
    assert (given.concept.synonyms, given.concept.found) == (("couch",), ("settee",))


def test_a_synonym_has_to_be_nearer_than_everything_that_counts_against(look: Look) -> None:
    near = {"couch": ("sofa", 0.6), "armoire": ("sofa", 0.2)}
    assert look("sofa", near=near).concept.found == ("couch",)
    assert look("sofa", ["armoire"], near=near).concept.found == ()


def test_a_synonym_that_is_to_be_told_apart_is_not_found(look: Look) -> None:
    names = look("sofa", ["Couch"], near={"couch": ("sofa", 0.1), "settee": ("sofa", 0.2), "Couch": ("far", 0.0)})
    assert names.concept.found == ("settee",)


def test_nothing_to_tell_it_apart_from(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match=r"nothing to tell it apart from.*--not NAME"):
        look("dog", background="none")
    monkeypatch.setattr(find_names, "common_nouns", lambda without=(): ("teapot", "cup"))
    with pytest.raises(SettingError, match="does not tell it from any noun"):
        look("gizmo | thingy", near={"teapot": ("gizmo", 0.0), "cup": ("thingy", 0.0)})


def test_the_embedded_model_knows_other_names() -> None:
    sandbox: Model = open_model("sandbox")
    request = Request(forget=(Concept(name="car"),), templates=find_names.SENTENCES)
    names = find_names.names_of(sandbox, request, "nouns")
    assert names.concept.found == ("automobile", "motor car")
    assert len(names.own_rows) == 3
    assert len(names.other_rows) == len(names.others) > 1100
    assert {"car", "taxi", "vehicle"} & set(common_nouns()) <= set(names.neutral)
