"""Suites of audits: every name exists, every setting fits, larger suites hold smaller ones."""

import pytest

from clip_unlearn import probes
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.config import build
from clip_unlearn.core.grades import MECHANISMS
from clip_unlearn.errors import UnknownNameError
from clip_unlearn.probes.audit.class_inversion import ClassInversion
from clip_unlearn.probes.audit.image_refit import ImageRefit
from clip_unlearn.runs.plan import Aids, make_probes
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.runs.suites import ALL, FULL, QUICK, STANDARD, SUITES, chosen


def test_every_audit_is_in_the_full_suite() -> None:
    audits = {name for name in probes.names() if issubclass(probes.find(name), Audit)}
    assert audits <= set(ALL)
    assert audits - set(STANDARD) == {"class_inversion", "relearn_time"}
    assert set(QUICK) < set(STANDARD) < set(ALL)


def test_every_mechanism_has_an_audit() -> None:
    kinds = [probes.find(name) for name in STANDARD]
    assert {kind.mechanism for kind in kinds if issubclass(kind, Audit)} == {*MECHANISMS.values(), "none"}


@pytest.mark.parametrize("name", FULL)
def test_the_settings_of_the_full_suite_fit(name: str) -> None:
    assert name in ALL
    build(probes.find(name), FULL[name], where=name)


def test_names_of_suites_and_of_audits() -> None:
    assert [chosen(suite)[0] for suite in SUITES] == [QUICK, STANDARD, ALL]
    assert chosen("rounding, image_refit,rounding") == (("rounding", "image_refit"), {})
    assert chosen("full")[1] is FULL


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rounding'"):
        chosen("zero_shot,roundin")


def test_all_of_the_data_is_measured_where_attacks_learn_from_others() -> None:
    data = DataChoice(path="sandbox:photo")
    (own,), _ = make_probes(["image_refit"], data)
    (other,), _ = make_probes(["image_refit"], data, aids=Aids(support="sandbox:photo@stop"))
    for probe, expected in ((own, ("audit", "sandbox:photo@select")), (other, ("all", "sandbox:photo@stop"))):
        assert isinstance(probe, ImageRefit)
        assert (probe.split, probe.support) == expected


def test_the_judge_goes_to_the_audit_that_asks_for_one() -> None:
    (painted,), _ = make_probes(["class_inversion"], DataChoice(path="sandbox:photo"), aids=Aids(judge="sandbox-conv"))
    assert isinstance(painted, ClassInversion)
    assert painted.judge == "sandbox-conv"
