"""What still leaks, on the page for people."""

from report_records import record

from clip_unlearn.core.disclosure import leaks
from clip_unlearn.core.record import Reach
from clip_unlearn.report.facts import sections
from clip_unlearn.report.summary import to_html, to_markdown
from clip_unlearn.report.words import UNRECORDED_LEAKS, limits

KNOWN = leaks(Reach(towers=("image",), depth="readout"), "suppress")


def test_recorded_leaks_take_the_place_of_the_general_ones():
    told = limits(record(leaks=KNOWN))
    assert set(KNOWN) < set(told)
    assert not set(UNRECORDED_LEAKS) & set(told)
    assert told[0].startswith("Suppression is not removal")
    assert told[-1].startswith("This page is a measurement")


def test_records_from_before_tell_the_general_ones():
    assert set(UNRECORDED_LEAKS) < set(limits(record()))


def test_both_pages_say_them_and_the_kind(tmp_path):
    made = record(leaks=KNOWN)
    pages = to_markdown(made).replace("\\", ""), to_html(made, tmp_path)
    for line in (*KNOWN, "suppress: a patch beside an unchanged base model"):
        assert all(line in page for page in pages), line
    erased = record(edit="erase", leaks=leaks(None, "erase"))
    assert "erase: a checkpoint handed out alone" in to_html(erased, tmp_path)


def test_the_kind_is_the_first_of_the_facts():
    fact = sections(record())[0].facts[0]
    assert (fact.label, fact.text[:9]) == ("Kind of edit", "suppress:")
