"""The laws can fail: each catches its vandal, and no other law would."""

import functools

import pytest
from cases import EMBEDDED
from vandals import VANDALS

import laws
from laws import LAWS

ON_TRAINED_MODELS = laws.the_class_is_forgotten_and_others_are_kept
by_vandal = pytest.mark.parametrize(("law", "vandal"), VANDALS, ids=[type(vandal).__name__ for _, vandal in VANDALS])


@pytest.fixture(scope="session")
def laws_broken_by(spoilable):
    """Return a function to the laws that a vandal breaks; every law sees a fresh model."""

    @functools.cache
    def broken(vandal, family):
        return {law for law in LAWS if breaks(law, spoilable(vandal, family))}

    return broken


def breaks(law, case) -> bool:
    try:
        law(case)
    except AssertionError:
        return True
    return False


def family_for(law) -> str:
    """Return the family on which a vandal is tried: the tiny CLIP, or a trained one where the law needs it."""
    if law is not ON_TRAINED_MODELS:
        return ""
    if not EMBEDDED:
        pytest.skip("no trained model is embedded")
    return EMBEDDED[0]


@by_vandal
def test_a_vandal_is_caught(laws_broken_by, law, vandal):
    assert laws_broken_by(vandal, family_for(law)), f"no law notices {type(vandal).__name__}"


@by_vandal
def test_no_other_law_would_catch_it(laws_broken_by, law, vandal):
    assert laws_broken_by(vandal, family_for(law)) <= {law}


def test_every_law_has_a_vandal():
    assert {law for law, _ in VANDALS} == set(LAWS)
