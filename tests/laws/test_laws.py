"""Every law, for every method, on every family."""

from collections.abc import Iterator
from typing import Any

import pytest
from cases import CONVOLUTIONAL, EXCUSED, FAMILIES, FIRST, SHORT_OF_IT, WEAK, settings_of, trains

import laws
from clip_unlearn import methods
from clip_unlearn.errors import UnsupportedError
from laws import LAWS

WITHOUT_FORGETTING = (laws.settings_rebuild_the_method, laws.errors_are_ours_and_end_with_the_way_out)
"""Laws that hold also where the model or the request lacks what the method needs."""


FALLING_SHORT = {(CONVOLUTIONAL, name) for name in WEAK}
TO_THE_END = ("cliperase", "lip", "lip_paper")
"""Methods that train and that are tried to the end also where time is short."""


def trials() -> Iterator[Any]:
    """Yield every law, method and family; of methods that train one family, and few to the end, are not slow."""
    for family in FAMILIES:
        for name in methods.names():
            for law in LAWS:
                long = law is laws.the_class_is_forgotten_and_others_are_kept and name not in TO_THE_END
                marks = [pytest.mark.slow] if trains(name) and (long or family != FIRST) else []
                if law is laws.the_class_is_forgotten_and_others_are_kept and (family, name) in FALLING_SHORT:
                    marks.append(pytest.mark.xfail(raises=AssertionError, reason=SHORT_OF_IT, strict=True))
                yield pytest.param(family, name, law, id=f"{family}-{name}-{law.__name__}", marks=marks)


@pytest.mark.parametrize(("family", "name", "law"), list(trials()))
def test_law(case_of, family, name, law):
    if reason := EXCUSED.get((name, law.__name__)):
        pytest.skip(reason)
    long = law is laws.the_class_is_forgotten_and_others_are_kept
    case = case_of(family, settings_of(name, short=not long))
    if law not in WITHOUT_FORGETTING:
        try:
            case.method.check(case.model, case.request)
        except UnsupportedError as error:
            pytest.skip(str(error))
    law(case)
