"""Every law, for every method, on every family."""

import pytest
from cases import EXCUSED, FAMILIES, QUICK

import laws
from clip_unlearn import methods
from clip_unlearn.errors import UnsupportedError
from laws import LAWS

WITHOUT_FORGETTING = (laws.settings_rebuild_the_method, laws.errors_are_ours_and_end_with_the_way_out)
"""Laws that hold also where the model or the request lacks what the method needs."""


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", methods.names())
@pytest.mark.parametrize("family", FAMILIES)
def test_law(case_of, family, name, law):
    if reason := EXCUSED.get((name, law.__name__)):
        pytest.skip(reason)
    case = case_of(family, methods.find(name)(**QUICK.get(name, {})))
    if law not in WITHOUT_FORGETTING:
        try:
            case.method.check(case.model, case.request)
        except UnsupportedError as error:
            pytest.skip(str(error))
    law(case)
