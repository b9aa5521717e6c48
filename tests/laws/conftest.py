"""Fixtures that make the cases of the laws."""

import copy
import dataclasses
import functools
from collections.abc import Callable

import pytest
from cases import EMBEDDED, make_case

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.models.open import open_model
from laws import Case


@pytest.fixture(scope="session")
def case_of(request: pytest.FixtureRequest) -> Callable[[str, Method], Case]:
    """Return a function that makes the case of a family and a method; models and cases are made once."""

    @functools.cache
    def opened(family: str) -> Model:
        return open_model(family) if family in EMBEDDED else request.getfixturevalue(family).model

    @functools.cache
    def case(family: str, method: Method) -> Case:
        return make_case(opened(family), method, trained=family in EMBEDDED)

    return case


@pytest.fixture(scope="session")
def spoilable(tiny_clip) -> Callable[[Method, str], Case]:
    """Return a function that makes a case with a model of its own, for methods that may spoil it."""

    def case(method: Method, family: str) -> Case:
        model = open_model(family) if family else tiny_clip.model
        own = dataclasses.replace(model, module=copy.deepcopy(model.module))
        return make_case(own, method, trained=bool(family))

    return case
