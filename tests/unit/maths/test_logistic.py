"""A linear classifier: its slope is null, against differences, and a case by hand."""

import pytest
import torch

from clip_unlearn.maths.logistic import fit_logistic


def drawn(count: int, width: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return 3 * rows + 2, torch.randint(classes, (count,), generator=generator)


@pytest.mark.parametrize(("count", "width"), [(30, 4), (30, 30), (12, 50)])
def test_no_other_classifier_is_better(count: int, width: int) -> None:
    """Also where there are fewer rows than columns, of which the fit sees no more than the rows span."""
    rows, labels = drawn(count, width, 3)
    found = fit_logistic(rows, labels, 3, penalty=0.7)
    inputs = (rows - rows.mean(0)) / rows.std(0, correction=0)
    weight, bias = (part.clone().requires_grad_() for part in (found.weight, found.bias))
    loss = torch.nn.functional.cross_entropy(inputs @ weight + bias, labels, reduction="sum")
    (loss + 0.35 * weight.square().sum()).backward()
    assert float(weight.grad.abs().max()) < 1e-3
    assert float(bias.grad.abs().max()) < 1e-3


def test_it_separates_what_can_be_separated() -> None:
    rows = torch.tensor([[0.0, 5], [1, 5], [10, 5], [11, 5]])
    found = fit_logistic(rows, torch.tensor([0, 0, 1, 1]), 2)
    assert found.scores(rows).argmax(1).tolist() == [0, 0, 1, 1]
    assert found.scores(torch.tensor([[-3.0, 5], [14, 5]])).argmax(1).tolist() == [0, 1]


def test_a_constant_column_does_nothing() -> None:
    rows, labels = drawn(30, 3, 2)
    constant = torch.cat([rows, torch.full((30, 1), 7.0, dtype=torch.float64)], dim=1)
    assert torch.allclose(
        fit_logistic(constant, labels, 2).scores(constant), fit_logistic(rows, labels, 2).scores(rows)
    )


def test_no_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="penalty"):
        fit_logistic(*drawn(9, 2, 2), 2, penalty=0)
