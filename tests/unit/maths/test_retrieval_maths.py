"""Places of matches in a search, against counting one pair at a time."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from clip_unlearn.maths import retrieval
from clip_unlearn.maths.retrieval import best_ranks

NAN = float("nan")


def slow_cosine(first: list[float], second: list[float]) -> float:
    """Return the cosine of two vectors, 0 where one is null."""
    lengths = math.hypot(*first) * math.hypot(*second)
    return sum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0


def slow_places(queries: Tensor, candidates: Tensor, matches: Tensor) -> list[int]:
    """Return the places by asking of every candidate whether it stands before the best match."""
    places = []
    for query, own in zip(queries.double().tolist(), matches.tolist(), strict=True):
        scores = [slow_cosine(query, candidate) for candidate in candidates.double().tolist()]
        if not any(own):
            places.append(len(scores) + 1)
            continue
        best = max(score for score, is_own in zip(scores, own, strict=True) if is_own)
        ahead = [score for score, is_own in zip(scores, own, strict=True) if not is_own and score >= best]
        places.append(1 + len(ahead))
    return places


def rows(*vectors: tuple[float, ...]) -> Tensor:
    return torch.tensor(vectors)


def on_the_circle(angles: list[int]) -> Tensor:
    """Return the unit vectors at these degrees; cosines of whole degrees are equal or 1e-4 apart."""
    radians = torch.tensor(angles, dtype=torch.float64) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1)


@st.composite
def searches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and candidates along axes, so that many scores are exactly equal, and any matches."""
    count, others = draw(st.integers(0, 5)), draw(st.integers(1, 7))
    axes = torch.cat([torch.eye(3), -torch.eye(3), torch.zeros(1, 3)])
    several = st.lists(st.integers(0, len(axes) - 1), min_size=others, max_size=others)
    picked = draw(st.lists(st.integers(0, len(axes) - 1), min_size=count, max_size=count))
    flags = draw(st.lists(st.booleans(), min_size=count * others, max_size=count * others))
    return axes[picked], axes[draw(several)], torch.tensor(flags, dtype=torch.bool).view(count, others)


@given(search=searches(), chunk=st.integers(1, 20))
def test_places_against_counting(search: tuple[Tensor, Tensor, Tensor], chunk: int) -> None:
    """With ties, null vectors, several matches and none, in parts of any size."""
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(retrieval, "CHUNK", chunk)
        assert best_ranks(*search).tolist() == slow_places(*search)


@given(
    angles=st.lists(st.integers(0, 119), min_size=2, max_size=8, unique=True),
    asked=st.lists(st.integers(0, 119), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_places_of_different_scores_against_counting(angles: list[int], asked: list[int], seed: int) -> None:
    # Queries a third of a step aside, so that no two candidates are equally far.
    queries, candidates = on_the_circle([one * 3 + 1 for one in asked]), on_the_circle([one * 3 for one in angles])
    generator = torch.Generator().manual_seed(seed)
    matches = torch.rand(len(asked), len(angles), generator=generator) < 0.4
    assert best_ranks(queries, candidates, matches).tolist() == slow_places(queries, candidates, matches)


def test_by_hand() -> None:
    """The first query finds its match behind one better candidate, the second finds it at once."""
    queries, candidates = rows((1.0, 0.0), (0.0, 2.0)), rows((3.0, 0.0), (1.0, 1.0), (0.0, 0.1))
    matches = torch.tensor([[False, True, False], [False, False, True]])
    assert best_ranks(queries, candidates, matches).tolist() == [2, 1]


@pytest.mark.parametrize(
    ("candidates", "own", "place"),
    [
        ([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0)], [0], 2),
        ([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0)], [0, 1], 1),
        ([(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], [1, 2], 2),
        ([(1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], [0, 2], 1),
        ([(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)], [1], 3),
        ([(1.0, 0.0), (1.0, 0.0), (0.0, 1.0)], [], 4),
    ],
    ids=["tie", "ties of matches alone", "second match behind", "best match counts", "null vectors tie", "no match"],
)
def test_ties_and_several_matches(candidates: list[tuple[float, float]], own: list[int], place: int) -> None:
    matches = torch.zeros(1, 3, dtype=torch.bool)
    matches[0, own] = True
    assert best_ranks(rows((1.0, 0.0)), torch.tensor(candidates), matches).tolist() == [place]


@pytest.mark.parametrize(
    ("query", "broken", "own", "place"),
    [
        ((1.0, 0.0), [1], [0], 2),
        ((1.0, 0.0), [0], [0], 3),
        ((1.0, 0.0), [0], [0, 2], 2),
        ((1.0, 0.0), [1], [0, 1], 1),
        ((1.0, 0.0), [0, 1, 2], [0, 1, 2], 1),
        ((NAN, 0.0), [], [0], 3),
    ],
    ids=[
        "another candidate",
        "the match",
        "the better of two matches",
        "the other of two matches",
        "all, and all match",
        "the query",
    ],
)
def test_nan_counts_against_the_match(
    query: tuple[float, float], broken: list[int], own: list[int], place: int
) -> None:
    """A broken candidate stands before the match, a broken match behind all."""
    candidates = rows((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
    candidates[broken] = NAN
    matches = torch.zeros(1, 3, dtype=torch.bool)
    matches[0, own] = True
    assert best_ranks(rows(query), candidates, matches).tolist() == [place]


def test_scores_are_held_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more scores at a time than CHUNK, and the same places."""
    generator, seen = torch.Generator().manual_seed(0), []
    queries, candidates = torch.randn(11, 4, generator=generator), torch.randn(6, 4, generator=generator)
    matches = torch.rand(11, 6, generator=generator) < 0.3
    whole, cosines = best_ranks(queries, candidates, matches), retrieval.cosines

    def counted(images: Tensor, texts: Tensor) -> Tensor:
        found = cosines(images, texts)
        seen.append(found.numel())
        return found

    monkeypatch.setattr(retrieval, "cosines", counted)
    for chunk, parts in ((66, [66]), (25, [24, 24, 18]), (5, [6] * 11)):
        seen.clear()
        monkeypatch.setattr(retrieval, "CHUNK", chunk)
        assert torch.equal(best_ranks(queries, candidates, matches), whole)
        assert seen == parts


def test_lengths_do_not_matter_and_no_queries_give_no_places() -> None:
    generator = torch.Generator().manual_seed(1)
    queries, candidates = torch.randn(5, 3, generator=generator), torch.randn(4, 3, generator=generator)
    matches = torch.eye(5, 4, dtype=torch.bool)
    scaled = best_ranks(queries * torch.tensor([[2.0], [0.5], [8.0], [1.0], [4.0]]), 3 * candidates, matches)
    assert torch.equal(best_ranks(queries, candidates, matches), scaled)
    nothing = best_ranks(queries[:0], candidates, matches[:0])
    assert (nothing.tolist(), nothing.dtype) == ([], torch.int64)
