"""Probabilities that images show a concept, against the formula written out."""

import math

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.request import Concept
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.mixture import Component, fit_mixture
from clip_unlearn.maths.vectors import unit
from clip_unlearn.runs import find_score
from clip_unlearn.runs.find_names import Names
from clip_unlearn.runs.find_score import WEIGHT, score

SCALE = 12.0


def rows(count: int, seed: int) -> Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def names_for(own: Tensor, others: Tensor) -> Names:
    return Names(
        concept=Concept(name="mug"),
        others=tuple(f"other {place}" for place in range(len(others))),
        given=0,
        neutral=(),
        own_rows=unit(own),
        other_rows=unit(others),
    )


@pytest.fixture
def names() -> Names:
    """Return a concept with two names and five others."""
    return names_for(rows(2, 1), rows(5, 2))


def pictures(names: Names, shown: int, count: int = 60) -> Tensor:
    """Return images of length other than 1, the first of them of the concept, the rest of the others in turn."""
    places = [names.own_rows[0] if row < shown else names.other_rows[row % 5] for row in range(count)]
    return (2 * torch.stack(places) + 0.5 * unit(rows(count, 3))).float()


def logits(images: Tensor, names: Names) -> list[list[float]]:
    """Return logits by loops: the log of the sum over the concept's names, then one for each of the others."""
    found = []
    for image in images.double():
        length = math.sqrt(sum(float(value) ** 2 for value in image))
        cosines = [
            sum(float(a) * float(b) for a, b in zip(image, row, strict=True)) / length
            for row in (*names.own_rows, *names.other_rows)
        ]
        count = len(names.own_rows)
        own = math.log(sum(math.exp(SCALE * cosine) for cosine in cosines[:count]))
        found.append([own, *(SCALE * cosine for cosine in cosines[count:])])
    return found


def test_the_formula(names: Names) -> None:
    images = pictures(names, 12)
    found = score(images, names, SCALE)
    odds = []
    for row in logits(images, names):
        odds.append(
            [z - math.log(sum(math.exp(other) for k, other in enumerate(row) if k != j)) for j, z in enumerate(row)]
        )
    assert found.margins.tolist() == pytest.approx([row[0] for row in odds], abs=1e-9)
    won = [max(row) for row in odds]
    lost = [one for row in odds for j, one in enumerate(row) if j != row.index(max(row))]
    for component, values in ((found.matches, won), (found.foreign, lost)):
        mean = sum(values) / len(values)
        assert component.mean == pytest.approx(mean, abs=1e-9)
        assert component.variance == pytest.approx(sum((one - mean) ** 2 for one in values) / len(values), abs=1e-8)
    assert len(lost) == 60 * 5
    mixture = fit_mixture(found.margins, lower=found.foreign, upper=found.matches, weight=50)
    assert found.mixture == mixture
    assert WEIGHT == 50
    for place, row in enumerate(logits(images, names)):
        best = max(row[1:])
        assert int(found.rivals[place]) == row[1:].index(best)
        duel = math.exp(row[0]) / (math.exp(row[0]) + math.exp(best))
        assert float(found.against_rival[place]) == pytest.approx(duel, abs=1e-9)
        expected = float(mixture.posterior(found.margins[place : place + 1])) * math.sqrt(duel)
        assert float(found.probabilities[place]) == pytest.approx(expected, abs=1e-9)


def test_images_of_the_concept_are_found(names: Names) -> None:
    found = score(pictures(names, 12), names, SCALE)
    assert float(found.probabilities[:12].min()) > 0.8
    assert float(found.probabilities[12:].max()) < 0.1
    assert float(found.probabilities.sum()) == pytest.approx(12, abs=1.5)
    assert ((found.probabilities >= 0) & (found.probabilities <= 1)).all()


def test_nothing_is_found_where_nothing_is(names: Names) -> None:
    assert float(score(pictures(names, 0), names, SCALE).probabilities.max()) < 0.5


def test_each_name_of_the_concept_counts(names: Names) -> None:
    second = pictures(names, 0, 40)
    second[:8] = (2 * names.own_rows[1] + 0.3 * unit(rows(8, 5))).float()
    alone = names_for(names.own_rows[:1], names.other_rows)
    both, one = score(second, names, SCALE), score(second, alone, SCALE)
    assert float(both.probabilities[:8].min()) > 0.8
    assert float(one.margins[:8].max()) < float(both.margins[:8].min()) - 2


def test_an_image_between_it_and_a_rival_is_less_probable(names: Names) -> None:
    images = pictures(names, 12)
    between = (names.own_rows[0] + names.other_rows[2]).float()
    found = score(torch.cat([images, between.unsqueeze(0)]), names, SCALE)
    assert found.rivals[-1] == 2
    assert float(found.against_rival[-1]) < 0.75 < float(found.against_rival[:12].min())
    posterior = float(found.mixture.posterior(found.margins[-1:]))
    assert float(found.probabilities[-1]) < 0.9 * posterior


def test_parts_of_the_images_give_what_all_at_once_give(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(names, 12)
    whole = score(images, names, SCALE)
    monkeypatch.setattr(find_score, "CHUNK", 7)
    parts = score(images, names, SCALE)
    assert torch.equal(whole.rivals, parts.rivals)
    assert torch.allclose(whole.probabilities, parts.probabilities, rtol=0, atol=1e-12)
    assert parts.foreign.variance == pytest.approx(whole.foreign.variance, rel=1e-9)


def test_lengths_do_not_count(names: Names) -> None:
    images = pictures(names, 12)
    longer = images * torch.linspace(0.1, 9, len(images)).unsqueeze(1)
    assert torch.allclose(
        score(images, names, SCALE).probabilities, score(longer, names, SCALE).probabilities, atol=1e-5
    )


def test_equal_images_have_no_spread_below_zero() -> None:
    """By rounding the mean square of three equal scores can be less than the square of their mean."""
    for seed in range(60):
        names = names_for(rows(1, seed), rows(1, seed + 1000))
        try:
            found = score(rows(1, seed + 2000).repeat(3, 1), names, 20.0)
        except UnsupportedError:
            continue
        assert found.foreign.variance >= 0
        assert found.probabilities.isfinite().all()


def test_scores_that_do_not_tell_the_two_apart_are_refused(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_scores: Tensor, **_expected: object) -> None:
        raise ValueError("for some reason")

    monkeypatch.setattr(find_score, "fit_mixture", refuse)
    with pytest.raises(UnsupportedError, match=r"do not tell 'mug' from .*\(for some reason\)\. Give other names"):
        score(pictures(names, 12), names, SCALE)


def test_a_name_that_the_model_takes_for_another_is_not_found() -> None:
    row = rows(1, 0)
    assert float(score(rows(5, 1), names_for(row, row), SCALE).probabilities.max()) < 0.5


def test_expected_components_are_kept_apart_from_the_fit(names: Names) -> None:
    found = score(pictures(names, 12), names, SCALE)
    assert isinstance(found.matches, Component)
    assert found.matches != found.mixture.upper
    assert found.foreign != found.mixture.lower
