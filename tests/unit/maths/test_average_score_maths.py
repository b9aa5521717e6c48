"""The average score against a hand computation, and its bootstrap against the spread it should have."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from clip_unlearn.maths.average_score import Outcome, average_score, average_score_interval

KINDS = ("both", "lost", "gained", "neither")
counts = st.integers(0, 40)
outcomes = st.builds(Outcome, both=counts, lost=st.integers(1, 40), gained=counts, neither=counts)


def outcome(both: int, lost: int = 0, gained: int = 0, neither: int = 0) -> Outcome:
    return Outcome(both=both, lost=lost, gained=gained, neither=neither)


def test_a_hand_computation_with_three_other_sets() -> None:
    """5 of 20 are left; 8 of 10 stay; other sets keep all, gain one, and lose half: (1/4 + 1/5 + 0 + 0 + 1/2) / 5."""
    forgotten = outcome(5, lost=15, neither=4)
    kept = [outcome(8, lost=2, neither=1), outcome(9), outcome(6, gained=1), outcome(2, lost=2, neither=6)]
    assert average_score(forgotten, kept) == pytest.approx((0.25 + 0.2 + 0 + 0 + 0.5) / 5)


def test_the_ends_of_the_scale() -> None:
    assert average_score(outcome(0, lost=7), [outcome(9)]) == 0
    assert average_score(outcome(7), [outcome(9)]) == 0.5
    assert average_score(outcome(7, neither=7), [outcome(0, lost=3)]) == 1
    assert average_score(outcome(5, gained=5), [outcome(9)]) == 1


def test_gains_of_one_set_do_not_pay_for_losses_of_another() -> None:
    assert average_score(outcome(0, lost=5), [outcome(5, lost=5), outcome(5, gained=5)]) == pytest.approx(0.5 / 3)


@given(forgotten=outcomes, kept=st.lists(outcomes, min_size=1, max_size=4))
def test_the_interval_holds_the_value_and_stays_the_same(forgotten: Outcome, kept: list[Outcome]) -> None:
    low, high = average_score_interval(forgotten, kept)
    assert 0 <= low <= average_score(forgotten, kept) <= high
    assert (low, high) == average_score_interval(forgotten, kept)


def test_what_never_varies_has_no_spread() -> None:
    assert average_score_interval(outcome(0, lost=30), [outcome(40)]) == (0, 0)


def test_the_interval_covers_the_true_score() -> None:
    """95 % intervals of samples of a known population hold its score in 91 to 99 % of 300 samples."""
    random = np.random.default_rng(1)
    shares = [(0.2, 0.6, 0.05, 0.15), (0.6, 0.25, 0.05, 0.1), (0.5, 0.2, 0.05, 0.25)]
    true = (0.25 / 0.8 + (1 - 0.65 / 0.85) + (1 - 0.55 / 0.7)) / 3
    held = 0
    for _ in range(300):
        drawn = [dict(zip(KINDS, map(int, random.multinomial(150, each)), strict=True)) for each in shares]
        first, *others = (Outcome(**each) for each in drawn)
        low, high = average_score_interval(first, others)
        held += low <= true <= high
    assert 0.91 <= held / 300 <= 0.99


def test_resamples_without_a_right_answer_before_are_left_out() -> None:
    """One right answer of three is not drawn in (2/3)^3 of the resamples, where the score would divide by nothing."""
    low, high = average_score_interval(outcome(1, neither=2), [outcome(1, neither=2)])
    assert (low, high) == (0.5, 0.5)


@pytest.mark.parametrize("part", ["forgotten", "kept"])
def test_nothing_right_before_is_refused(part: str) -> None:
    sets = {"forgotten": outcome(3), "kept": outcome(3), part: outcome(0, gained=2, neither=5)}
    for function in (average_score, average_score_interval):
        with pytest.raises(ValueError, match="of which nothing was right before"):
            function(sets["forgotten"], [sets["kept"]])
