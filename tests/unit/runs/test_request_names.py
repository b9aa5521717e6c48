"""Other names and the background of a request, on the embedded model."""

from pathlib import Path

import pytest

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts import thesaurus, wordnet
from clip_unlearn.prompts.expand import common_nouns
from clip_unlearn.runs.names import completed
from clip_unlearn.sandbox.classes import CLASS_NAMES


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


@pytest.fixture
def no_wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let NLTK look into an empty folder only."""
    from nltk import data

    monkeypatch.setattr(data, "path", [str(tmp_path)])


def asking(*forget: str, **lists: tuple[str, ...]) -> Request:
    named = {name for concept in forget for name in Concept.model_validate(concept).names}
    others = tuple(name for name in CLASS_NAMES if name not in named)
    return Request(**{"forget": forget, "retain": others, **lists})


def found(model: Model, request: Request, *, other_names="auto", background="none") -> tuple[tuple[str, ...], ...]:
    done = completed(model, request, other_names=other_names, background=background)
    return tuple(concept.found for concept in done.forget)


def test_names_that_the_model_knows_are_found(sandbox):
    """It never learnt "motorcar" and "auto"; the order is that of the thesaurus."""
    assert thesaurus.synonyms("car") == ("automobile", "motorcar", "motor car", "auto")
    assert found(sandbox, asking("car")) == (("automobile", "motor car"),)
    assert found(sandbox, asking("rabbit", "bus")) == (("bunny", "bunny rabbit"), ())


def test_the_users_own_names_are_not_found_again(sandbox):
    done = completed(sandbox, asking("car | automobile"), other_names="auto", background="none")
    assert done.forget == (Concept(name="car", synonyms=("automobile",), found=("motor car",)),)


@pytest.mark.parametrize("where", ["retain", "background"])
def test_what_another_list_claims_is_not_found(sandbox, where):
    for claimed in ("Motor_Car", "motor car"):
        request = asking("car", **{where: ("cat", claimed)})
        done = completed(sandbox, request, other_names="auto", background="none")
        assert "motor car" not in done.forget[0].names
        assert getattr(done, where) == ("cat", claimed)


def test_a_claimed_name_is_not_even_looked_at(sandbox, monkeypatch):
    looked = []
    monkeypatch.setattr(
        "clip_unlearn.runs.names._with_found", lambda _m, _r, concept, names: looked.append(names) or concept
    )
    request = asking("car", "rabbit | bunny", retain=("Motor_Car",), background=("AUTO",))
    completed(sandbox, request, other_names="auto", background="none")
    assert looked == [("automobile", "motorcar"), ("bunny rabbit",)]


def test_a_retained_name_that_is_nearer_bars_a_name(sandbox):
    """The embedded model takes "sedan" for a car, and rather than "motor car"."""
    assert found(sandbox, asking("car", retain=("cat",))) == (("automobile", "motor car"),)
    assert found(sandbox, asking("car", retain=("cat", "sedan"))) == (("automobile",),)


def test_of_two_concepts_with_one_other_name_the_first_gets_it(sandbox):
    first, second = found(sandbox, asking("automobile", "car", retain=("cat",)))
    assert "motor car" in first
    assert second == ()


def test_none_adds_nothing(sandbox):
    request = asking("car")
    assert completed(sandbox, request, other_names="none", background="none") == request


def test_the_background_holds_common_nouns_that_nobody_claims(sandbox):
    request = asking("car", "couch", retain=("cat", "Teapot", "ladder"))
    done = completed(sandbox, request, other_names="none", background="nouns")
    barred = {"car", "automobile", "couch", "sofa", "cat", "teapot", "ladder"}
    assert len(done.background) > 1000
    assert barred.isdisjoint(key(noun) for noun in done.background)
    assert {"sofa", "car", "cat", "teapot", "ladder"} <= set(common_nouns())
    assert set(common_nouns(without=["car", "couch"])) - set(done.background) == {"cat", "teapot", "ladder"}
    assert done.retain == request.retain


def test_synonyms_that_the_user_gives_are_no_background(sandbox):
    done = completed(sandbox, asking("mug | cup"), other_names="none", background="nouns")
    assert {"cup", "mug"}.isdisjoint(done.background)
    assert "cup" in completed(sandbox, asking("mug"), other_names="none", background="nouns").background


def test_a_background_that_is_given_stays(sandbox):
    request = asking("car", background=("zebra",), retain=())
    assert completed(sandbox, request, other_names="none", background="nouns") == request


@pytest.mark.parametrize("background", ["nouns", "none"])
@pytest.mark.parametrize("forget", [("car",), ("rabbit", "cat | tabby"), ("mug",), ("automobile", "car")])
def test_twice_is_once(sandbox, forget, background):
    request = asking(*forget, retain=("bowl", "boat"))
    once = completed(sandbox, request, other_names="auto", background=background)
    assert completed(sandbox, once, other_names="auto", background=background) == once
    assert (once != request) or (forget, background) == (("mug",), "none")


@pytest.mark.usefixtures("no_wordnet")
def test_wordnet_that_is_not_there_is_an_error(sandbox):
    with pytest.raises(UnsupportedError, match=r"no WordNet on this machine.*nltk\.downloader wordnet"):
        completed(sandbox, asking("car"), other_names="wordnet", background="none")
    assert found(sandbox, asking("car")) == (("automobile", "motor car"),)


def test_wordnet_adds_to_the_thesaurus(sandbox, monkeypatch):
    monkeypatch.setattr(wordnet, "synonyms", lambda name: ("sedan", "Automobile", "machine") if name == "car" else ())
    assert found(sandbox, asking("car"), other_names="wordnet") == (("automobile", "motor car", "sedan"),)
    assert found(sandbox, asking("car"), other_names="auto") == (("automobile", "motor car"),)


def test_other_names_are_no_background_even_if_the_model_does_not_know_them(sandbox, monkeypatch):
    monkeypatch.setattr(wordnet, "synonyms", lambda _name: ("Zebra",))
    done = completed(sandbox, asking("car"), other_names="wordnet", background="nouns")
    assert "zebra" in completed(sandbox, asking("car"), other_names="auto", background="nouns").background
    assert "zebra" not in done.background
    assert "Zebra" not in done.forget[0].names
