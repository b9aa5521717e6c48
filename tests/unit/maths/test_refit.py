"""A last layer fitted again: against the normal equations written out, and against what must come back exactly."""

import pytest
import torch

from clip_unlearn.maths.refit import refit


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("count", "width"), [(40, 7), (5, 9)])
@pytest.mark.parametrize("started", [False, True])
def test_the_normal_equations(count: int, width: int, started: bool) -> None:
    features, targets, start = rows(count, width), rows(count, 3, 1), rows(width, 3, 2) if started else None
    found = refit(features, targets, share=0.3, start=start)
    penalty = 0.3 * torch.linalg.eigvalsh(features.T @ features).mean()
    first = torch.zeros(width, 3, dtype=torch.float64) if start is None else start
    slope = features.T @ (features @ found - targets) + penalty * (found - first)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


def test_a_layer_comes_back_from_what_it_gave() -> None:
    layer, features = rows(6, 4), rows(50, 6, 1)
    torch.testing.assert_close(refit(features, features @ layer, share=1e-9), layer, atol=1e-6, rtol=1e-6)


def test_a_large_penalty_stays_at_the_start() -> None:
    start = rows(6, 4)
    torch.testing.assert_close(refit(rows(9, 6), rows(9, 4), share=1e12, start=start), start, atol=1e-9, rtol=0)


def test_no_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="share must be positive"):
        refit(rows(4, 2), rows(4, 2), share=0)
