"""Plurals and misspellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_unlearn.prompts.wordings import misspellings, plural


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("mug", "mugs"),
        ("bus", "buses"),
        ("cherry", "cherries"),
        ("toy", "toys"),
        ("church", "churches"),
        ("sea box", "sea boxes"),
    ],
)
def test_plural(one: str, many: str) -> None:
    assert plural(one) == many


def distance(first: str, second: str) -> int:
    """Return the Levenshtein distance by the plain recursion over prefixes."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ", min_size=1, max_size=20).filter(lambda text: text.strip()))
def test_misspellings_are_one_or_two_edits_away(name: str) -> None:
    name = " ".join(name.split())
    wrong = misspellings(name)
    assert name not in wrong
    assert len(set(wrong)) == len(wrong) <= 4
    assert all(1 <= distance(name, one) <= 2 for one in wrong)


def test_misspellings_of_a_word() -> None:
    assert misspellings("teapot") == ("teaot", "teappot", "tepaot", "tiapot")
