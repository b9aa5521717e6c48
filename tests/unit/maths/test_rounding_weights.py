"""Weights in fewer numbers: counted by hand, and against the definition entry by entry."""

import pytest
import torch

from clip_unlearn.maths.rounding import pruned, quantised, steps_of


def test_every_entry_is_the_nearest_multiple_of_its_rows_step() -> None:
    weight = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    for bits in (8, 4, 3):
        found = quantised(weight, bits)
        for row, (old, new) in enumerate(zip(weight, found, strict=True)):
            step = float(old.abs().max()) / (2 ** (bits - 1) - 1)
            assert float(steps_of(weight, bits)[row]) == pytest.approx(step)
            for before, after in zip(old.flatten().tolist(), new.flatten().tolist(), strict=True):
                assert after == pytest.approx(step * round(before / step), abs=1e-6)


def test_by_hand() -> None:
    weight = torch.tensor([[3.0, 1.4, -1.6, 0.4], [0.0, 0.0, 0.0, 0.0]])
    assert quantised(weight, 3).tolist() == [[3, 1, -2, 0], [0, 0, 0, 0]]
    assert pruned(weight[:1], 0.5).tolist() == [[3, 0, pytest.approx(-1.6), 0]]


def test_rows_of_one_dimension_stay() -> None:
    bias = torch.tensor([0.1, 5.0])
    assert quantised(bias, 4) is bias
    assert pruned(bias, 0.5) is bias


def test_the_number_format_stays() -> None:
    assert quantised(torch.ones(2, 2, dtype=torch.float16), 8).dtype == torch.float16


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="bits"):
        quantised(torch.ones(2, 2), 1)
    with pytest.raises(ValueError, match="share"):
        pruned(torch.ones(2, 2), 1.0)
