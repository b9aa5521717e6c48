"""The strength that synonyms need, against a slow version that builds the edit of every noun."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import _overshoot
from clip_unlearn.methods._overshoot import FEWEST, USUAL, overshoot
from clip_unlearn.prompts import thesaurus

COUNT, RETAINED, WIDTH = 45, 3, 24
NOUNS = tuple(f"noun {place}" for place in range(COUNT))
SYNONYMS = tuple(f"other {place}" for place in range(COUNT))
REQUEST = Request(forget=(Concept(name="mug"),), background=(*NOUNS, "lonely"))


class Rows:
    """Random nouns, a synonym near each, and what an edit would hold; weights of the background last."""

    def __init__(self, seed: int, *, near: float = 0.5) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.nouns = unit(torch.randn(COUNT, WIDTH, generator=draw, dtype=torch.float64) + 0.3)
        noise = unit(torch.randn(COUNT, WIDTH, generator=draw, dtype=torch.float64))
        self.synonyms = unit(self.nouns + near * noise)
        self.retained = unit(torch.randn(RETAINED, WIDTH, generator=draw, dtype=torch.float64))
        self.neutral = unit(self.nouns.mean(0))
        # The last noun means what is to be forgotten, and is held by nobody.
        self.held = torch.cat([self.retained, self.nouns[:-1]])
        self.weights = torch.cat([torch.full((RETAINED,), 0.7), torch.full((COUNT - 1,), 3.0)]).double()

    def table(self) -> dict[str, Tensor]:
        return dict(zip((*NOUNS, *SYNONYMS), torch.cat([self.nouns, self.synonyms]), strict=True))


@pytest.fixture
def strength(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the function that works out the strength of random rows."""

    def work_out(rows: Rows, forget_weight: float, *, senses: Any = None, request: Request = REQUEST) -> float:
        lines = senses or (*zip(NOUNS, SYNONYMS, strict=True), ("lonely",), ("elsewhere", "anywhere"))
        monkeypatch.setattr(thesaurus, "senses", lambda: lines)
        table = rows.table()
        monkeypatch.setattr(
            _overshoot, "name_rows", lambda _model, _request, names: torch.stack([table[n] for n in names])
        )
        model: Model = None  # type: ignore[assignment]
        return overshoot(model, request, rows.held, rows.weights, rows.neutral, forget_weight)

    return work_out


def literally(rows: Rows, forget_weight: float) -> tuple[float, int]:
    """Return 95 % quantile of the strengths needed, and how many synonyms count: one whole matrix per noun."""
    needed = []
    for place in range(COUNT):
        noun, synonym = rows.nouns[place], rows.synonyms[place]
        others = [index for index, row in enumerate(rows.held) if not torch.equal(row, noun)]
        held, weights = rows.held[others], rows.weights[others]
        goal = (noun @ rows.neutral) * rows.neutral
        matrix = ridge_edit(
            noun.unsqueeze(0), goal.unsqueeze(0), held, forget_weight=forget_weight, retain_weight=weights
        ).dense()
        before, after, best = noun @ synonym, noun @ matrix @ synonym, (held @ noun).max()
        if before > best:
            needed.append(float((before - best) / (before - after)) if after < before else float("inf"))
    return sorted(needed)[int(0.95 * (len(needed) - 1))], len(needed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("forget_weight", [0.5, 20.0, 1e6])
def test_the_rule_is_the_slow_version(strength, seed, forget_weight):
    rows = Rows(seed)
    quantile, count = literally(rows, forget_weight)
    assert count >= FEWEST
    assert strength(rows, forget_weight) == pytest.approx(min(2.0, max(1.0, 2 * quantile)), abs=0.0051)


@pytest.mark.parametrize("seed", range(6))
def test_the_quantile_before_it_is_bounded(strength, monkeypatch, seed):
    """A small margin and weight leave every answer between the bounds."""
    rows, forget_weight = Rows(seed), 0.5
    quantile, _ = literally(rows, forget_weight)
    monkeypatch.setattr(_overshoot, "MARGIN", 1.5 / quantile)
    assert strength(rows, forget_weight) == pytest.approx(1.5, abs=0.0051)


def test_bounds(strength, monkeypatch):
    monkeypatch.setattr(_overshoot, "MARGIN", 1e-3)
    assert strength(Rows(0), 1e6) == 1.0
    monkeypatch.setattr(_overshoot, "MARGIN", 1e3)
    assert strength(Rows(0), 1e6) == 2.0


def test_too_few_nouns_with_a_synonym(strength):
    pairs = tuple(zip(NOUNS, SYNONYMS, strict=True))
    assert strength(Rows(0), 1.0, senses=pairs[: FEWEST - 1]) == USUAL
    assert strength(Rows(0), 1.0, senses=pairs[:FEWEST]) != USUAL


def test_too_few_nouns_in_the_background(strength):
    few = Request(forget=REQUEST.forget, background=NOUNS[: FEWEST - 1])
    assert strength(Rows(0), 1.0, request=few) == USUAL


def test_too_few_synonyms_that_the_model_takes_for_their_noun(strength):
    rows = Rows(0)
    assert strength(rows, 1.0) != USUAL
    rows.synonyms[FEWEST - 1 :] = -rows.nouns[FEWEST - 1 :]
    assert strength(rows, 1.0) == USUAL


def test_a_name_that_is_held_twice_counts_with_both_weights(strength):
    rows, twice = Rows(1), Rows(1)
    twice.held = torch.cat([twice.held, twice.nouns[:-1]])
    twice.weights = torch.cat([twice.weights, torch.full((COUNT - 1,), 2.0, dtype=torch.float64)])
    rows.weights[RETAINED:] = 5.0
    assert strength(twice, 0.5) == strength(rows, 0.5)
