"""What is searched: from words to ranges and choices, and every refusal."""

from typing import Any

import pytest

from clip_unlearn.errors import SettingError, UnknownNameError
from clip_unlearn.runs.recipe import MethodChoice
from clip_unlearn.runs.tune_space import Space, read_space, value_of
from clip_unlearn.runs.tuned import Choice, Range


def space(name: str, *search: str, **settings: Any) -> Space:
    return read_space(MethodChoice(name=name, settings=settings), search)


def test_ranges_and_choices_are_typed_by_the_method() -> None:
    found = space("cliperase", "descent.rate=1e-4:1e-2:log", "descent.steps=20:200", "descent.towers=both, image")
    assert found.dimensions == (
        Range(setting="descent.rate", low=1e-4, high=1e-2, log=True),
        Range(setting="descent.steps", low=20, high=200, whole=True),
        Choice(setting="descent.towers", values=("both", "image")),
    )


def test_a_number_that_may_be_left_out_has_a_range() -> None:
    assert space("redirect", "strength=1:2").dimensions == (Range(setting="strength", low=1, high=2),)


def test_choices_are_what_the_method_makes_of_them() -> None:
    """YAML reads `1e-2` as text; the method knows that it is a number, and that nothing is a value."""
    assert space("redirect", "strength=null,1e-1,2").dimensions == (
        Choice(setting="strength", values=(None, 0.1, 2.0)),
    )
    assert space("negmerge", "consensus=true,false").dimensions == (Choice(setting="consensus", values=(True, False)),)
    assert space("redirect", "destination='a, b: c',empty").dimensions[0].values == ("a, b: c", "empty")
    lists = space("negmerge", "other_senses=[apple pie],[]").dimensions[0].values
    assert lists == (("apple pie",), ())


def test_settings_keep_what_was_given_beside_the_values() -> None:
    found = space("cliperase", "descent.rate=1e-4:1e-2:log", "floor=none,neutral", descent={"steps": 7}, floor="none")
    settings = found.settings({"descent.rate": 0.002, "floor": "neutral"})
    assert settings == {"descent": {"steps": 7, "rate": 0.002}, "floor": "neutral"}
    method = found.method({"descent.rate": 0.002, "floor": "neutral"})
    assert value_of(method, "descent.rate") == 0.002
    assert value_of(method, "descent.steps") == 7
    assert found.fixed == {"descent": {"steps": 7}, "floor": "none"}


def test_the_start_is_what_was_given_or_the_default() -> None:
    both = ("side=text,image", "forget_weight=1:1e7:log")
    assert space("redirect", *both).start() == {"side": "image", "forget_weight": 1e6}
    assert space("redirect", *both, forget_weight=10).start() == {"side": "image", "forget_weight": 10}
    assert space("redirect", *both, forget_weight=0.1).start() is None
    assert space("redirect", *both, side="both").start() is None


def test_combinations_are_counted() -> None:
    found = space("negmerge", "models=2:4", "consensus=true,false")
    combinations = found.combinations(6)
    assert combinations is not None
    assert [tuple(one.values()) for one in combinations] == [(n, flag) for n in (2, 3, 4) for flag in (True, False)]
    assert found.combinations(5) is None
    assert space("project", "strength=0.1:1", "pool=mean,each").combinations(10_000) is None


def test_auto_is_a_value_where_it_is_the_default() -> None:
    """A recipe takes the word for what a budget chooses, so it is left out there."""
    found = space("negmerge", "sentences=auto,captions", "models=2:3")
    assert found.settings({"sentences": "auto", "models": 2}) == {"models": 2}
    assert found.method({"sentences": "auto", "models": 2}).model_dump()["sentences"] == "auto"
    assert space("project", "strength=0.1:1", strength="auto").fixed == {}


def test_values_of_a_range() -> None:
    factors = Range(setting="rate", low=1e-4, high=1e-2, log=True)
    assert [factors.at(share) for share in (0, 0.25, 0.5, 1)] == [1e-4, 0.0003162, 1e-3, 1e-2]
    assert Range(setting="one", low=1, high=9).at(0.25) == 3
    assert Range(setting="third", low=1 / 3, high=2 / 3).at(0) == 1 / 3
    whole = Range(setting="steps", low=10, high=21, whole=True).at(0.5)
    assert (whole, type(whole)) == (16, int)


BAD: dict[str, tuple[str, list[str], dict[str, Any], str]] = {
    "nothing": ("project", [], {}, "Nothing to search"),
    "no values": ("project", ["strength"], {}, "is not name=values"),
    "empty values": ("project", ["strength="], {}, "is not name=values"),
    "unknown setting": (
        "project",
        ["strenght=0.1:1"],
        {},
        "Did you mean 'strength'? Settings: strength, centre, pool.",
    ),
    "unknown setting of a table": ("cliperase", ["descent.rat=1:2"], {}, "Did you mean 'descent.rate'?"),
    "unknown table": ("cliperase", ["decent.rate=1:2"], {}, "Did you mean 'descent'?"),
    "a setting that is no table": ("project", ["strength.rate=1:2"], {}, "Settings: none"),
    "a table": ("cliperase", ["descent=1:2"], {}, "for example descent.steps"),
    "two levels": ("cliperase", ["descent.rate.first=1:2"], {}, "unknown setting 'descent.rate'"),
    "beyond the bounds": ("project", ["strength=0.1:2"], {}, "strength = 2.0 is not usable"),
    "below the bounds": ("project", ["strength=0:1"], {}, "greater than 0"),
    "unknown choice": ("project", ["pool=mean,all"], {}, "pool = 'all' is not usable"),
    "range of a choice": ("project", ["pool=mean:each"], {}, "Only a number can have a range"),
    "one value": ("project", ["strength=0.5"], {}, "or one with --set"),
    "the same value twice": ("project", ["strength=1,0.5,1.0"], {}, "1.0 twice"),
    "not in order": ("project", ["strength=1:0.1"], {}, "smaller number first"),
    "no width": ("project", ["strength=1:1"], {}, "smaller number first"),
    "no number": ("project", ["strength=low:high"], {}, "no number"),
    "not finite": ("project", ["strength=0.1:inf"], {}, "not finite"),
    "not a number": ("project", ["strength=nan:1"], {}, "not finite"),
    "three ends": ("project", ["strength=0.1:0.5:1"], {}, "low:high:log"),
    "two scales": ("project", ["strength=0.1:1:log:log"], {}, "low:high:log"),
    "factors from nothing": ("ccup", ["retain_weight=0:1:log"], {}, "start above 0"),
    "parts of a whole": ("negmerge", ["models=1.5:4"], {}, "whole number"),
    "unreadable values": ("project", ["pool=[mean"], {}, "no readable values"),
    "twice": ("project", ["strength=0.1:1", "strength=0.5,1"], {}, "searched twice"),
    "another that a budget would choose": (
        "ccup",
        ["pool=name,concept"],
        {"strength": "auto"},
        "--search strength=LOW",
    ),
    "given, not usable": ("project", ["pool=mean,each"], {"strength": 2}, "strength = 2 is not usable"),
    "not together": ("negmerge", ["spread=1:9", "descent.rate=1:10"], {}, "smaller spread or descent.rate"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name: str) -> None:
    method, search, settings, hint = BAD[name]
    with pytest.raises(SettingError) as caught:
        space(method, *search, **settings)
    assert hint in str(caught.value)


def test_unknown_method() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'project'"):
        space("projekt", "strength=0.1:1")
