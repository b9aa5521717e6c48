"""Concept erasure: what it guarantees, that it changes least, and that either can fail."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.nn.functional import cross_entropy

from clip_unlearn.maths.erasure import Eraser, Moments, fit_eraser

WIDTH = 6
EXACT = {"rtol": 0, "atol": 1e-10}
seeds = st.integers(0, 10_000)
label_counts = st.integers(1, 3)
shrinkages = st.sampled_from([0.0, 0.3, 1.0])


def labelled(seed: int, labels: int = 2, *, count: int = 120, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    """Return correlated features far from 0 whose mean depends on the label, and one-hot labels with a rest class."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % (labels + 1)
    means = torch.randn(labels + 1, width, generator=generator, dtype=torch.float64)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return noise @ mixing + 2 * means[classes] + 3.0, torch.eye(labels + 1, dtype=torch.float64)[classes][:, :labels]


def moments_of(features: Tensor, labels: Tensor) -> Moments:
    return Moments.empty(features.shape[1], labels.shape[1]).add(features, labels)


def fitted(features: Tensor, labels: Tensor, **settings: object) -> Eraser:
    return fit_eraser(moments_of(features, labels), **settings)


def cross_covariance(features: Tensor, labels: Tensor) -> Tensor:
    return (features - features.mean(0)).T @ (labels - labels.mean(0)) / len(features)


def change(eraser: Eraser, features: Tensor) -> float:
    return float((eraser(features) - features).square().sum(1).mean())


def with_square_roots(features: Tensor, labels: Tensor) -> Tensor:
    """Return the erased features by the published formula: full square roots of the covariance, by eigenvectors."""
    mean = features.mean(0)
    values, vectors = torch.linalg.eigh((features - mean).T @ (features - mean) / len(features))
    there = values > 1e-9 * values[-1]
    root = vectors[:, there] * values[there].sqrt() @ vectors[:, there].T
    inverse = vectors[:, there] / values[there].sqrt() @ vectors[:, there].T
    whitened = inverse @ cross_covariance(features, labels)
    projector = whitened @ torch.linalg.pinv(whitened, rtol=1e-9)
    return features - (features - mean) @ (root @ projector @ inverse).T


def by_regression(features: Tensor, labels: Tensor, *, intercept: bool) -> Tensor:
    """Return the best least-squares guess of every feature from what is orthogonal to the cross-covariance."""
    full, _, _ = torch.linalg.svd(cross_covariance(features, labels), full_matrices=True)
    rest = features @ full[:, labels.shape[1] :]
    if intercept:
        rest = torch.cat([rest, torch.ones(len(rest), 1, dtype=torch.float64)], dim=1)
    return rest @ torch.linalg.lstsq(rest, features).solution


def least_squares_loss(features: Tensor, labels: Tensor) -> float:
    rows = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    return float((rows @ torch.linalg.lstsq(rows, labels, driver="gelsd").solution - labels).square().mean())


def logistic_loss(features: Tensor, labels: Tensor) -> float:
    """Return the smallest cross-entropy that a trained linear classifier with an intercept comes to."""
    classes = torch.cat([labels, 1 - labels.sum(1, keepdim=True)], dim=1).argmax(1)
    rows = (features - features.mean(0)) / features.std()
    weights = torch.zeros(rows.shape[1] + 1, labels.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(rows @ weights[:-1] + weights[-1], classes)
        value.backward()
        return value

    optimizer.step(loss)
    return loss().item()


def constant_logistic_loss(labels: Tensor) -> float:
    shares = torch.cat([labels.mean(0), 1 - labels.mean(0).sum().reshape(1)])
    return float(-(shares * shares.log()).sum())


def test_by_hand():
    """Two labels differ along the first axis alone, where nothing else varies with it: that axis is set to its mean."""
    features = torch.tensor([[1.0, 5.0], [1.0, 7.0], [3.0, 5.0], [3.0, 7.0]])
    eraser = fitted(features, torch.tensor([[0.0], [0.0], [1.0], [1.0]]))
    torch.testing.assert_close(eraser(features), torch.tensor([[2.0, 5], [2, 7], [2, 5], [2, 7]]).double(), **EXACT)
    assert eraser.rank == 1


@given(seed=seeds, labels=label_counts, shrinkage=shrinkages, offset=st.booleans())
def test_nothing_correlates_with_the_labels_afterwards(seed, labels, shrinkage, offset):
    features, marks = labelled(seed, labels)
    eraser = fitted(features, marks, shrinkage=shrinkage, offset=offset)
    after = eraser(features)
    assert cross_covariance(after, marks).abs().max() < 1e-10 * features.abs().max()
    means = [after[column == 1].mean(0) for column in marks.T]
    for mean in means:
        torch.testing.assert_close(mean, after.mean(0), rtol=1e-9, atol=1e-9)
    assert eraser.rank == labels


@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("labels", [1, 2, 3])
def test_no_linear_classifier_beats_a_constant_answer(labels, offset):
    features, marks = labelled(labels, labels)
    after = fitted(features, marks, offset=offset)(features)
    constant = float((marks - marks.mean(0)).square().mean())
    assert least_squares_loss(features, marks) < 0.8 * constant
    assert least_squares_loss(after, marks) == pytest.approx(constant, rel=1e-9)
    entropy = constant_logistic_loss(marks)
    assert logistic_loss(features, marks) < 0.8 * entropy
    assert logistic_loss(after, marks) == pytest.approx(entropy, rel=1e-9)


def test_an_eraser_of_wrong_labels_does_not_keep_the_guarantee():
    features, marks = labelled(0)
    wrong = marks[torch.randperm(len(marks), generator=torch.Generator().manual_seed(1))]
    after = fitted(features, wrong)(features)
    assert cross_covariance(after, marks).abs().max() > 0.1
    assert logistic_loss(after, marks) < 0.8 * constant_logistic_loss(marks)


@given(seed=seeds, labels=label_counts)
def test_the_published_formula_gives_the_same(seed, labels):
    features, marks = labelled(seed, labels)
    torch.testing.assert_close(
        fitted(features, marks)(features), with_square_roots(features, marks), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("count", [5, 120])
def test_the_published_formula_gives_the_same_where_features_are_bound_to_a_plane(count):
    """Fewer samples than directions, or directions that are sums of others: the covariance has no inverse."""
    plane = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    features, marks = labelled(3, 1, count=count, width=3)
    features = features @ plane
    after = fitted(features, marks)(features)
    torch.testing.assert_close(after, with_square_roots(features, marks), rtol=1e-8, atol=1e-8)
    assert cross_covariance(after, marks).abs().max() < 1e-10


def test_directions_along_which_the_samples_do_not_vary_are_left_alone():
    """Also for samples that do: the inverse of rounding noise would tear them apart."""
    features, marks = labelled(4, 1, width=3)
    plane = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(9)).double()).Q
    eraser = fitted(features @ plane[:3], marks)
    others = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double() @ plane[3:]
    torch.testing.assert_close(
        eraser(others + features.mean(0) @ plane[:3]) - others,
        (features.mean(0) @ plane[:3]).expand(50, WIDTH),
        rtol=0,
        atol=1e-4,
    )
    constant = torch.cat([features, torch.zeros(len(features), 1)], dim=1)
    torch.testing.assert_close(fitted(constant, marks)(constant)[:, :3], fitted(features, marks)(features), **EXACT)


def test_the_faintest_difference_is_erased():
    """Every sample stands once under each label, so that nothing but the faint step tells them apart."""
    features, _ = labelled(2)
    marks = torch.cat([torch.zeros(len(features), 1), torch.ones(len(features), 1)]).double()
    features = torch.cat([features, features])
    features[:, 0] += 1e-6 * marks[:, 0]
    assert cross_covariance(features, marks).abs().max() > 1e-7
    assert cross_covariance(fitted(features, marks)(features), marks).abs().max() < 1e-13


@given(seed=seeds, labels=label_counts, offset=st.booleans())
def test_what_is_left_is_the_best_guess_from_what_tells_nothing(seed, labels, offset):
    """A map with U erased is a guess of z from the rest of z; the one of least squared error is the regression."""
    features, marks = labelled(seed, labels)
    wanted = by_regression(features, marks, intercept=offset)
    torch.testing.assert_close(fitted(features, marks, offset=offset)(features), wanted, rtol=1e-8, atol=1e-8)


@given(seed=seeds, labels=label_counts)
def test_it_changes_less_than_other_erasers(seed, labels):
    features, marks = labelled(seed, labels)
    best = fitted(features, marks)
    others = {
        "orthogonal": fitted(features, marks, shrinkage=1.0),
        "shrunk": fitted(features, marks, shrinkage=0.3),
        "linear": fitted(features, marks, offset=False),
    }
    assert torch.allclose(others["orthogonal"].reach, best.directions)
    for name, other in others.items():
        assert change(best, features) <= change(other, features) + 1e-9, name
    # Any other map that erases the same directions: noise that reads only what is orthogonal to them.
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    blind = noise - best.directions @ (best.directions.T @ noise)
    moved = best(features) + 0.1 * (features - features.mean(0)) @ blind
    assert cross_covariance(moved, marks).abs().max() < 1e-9
    assert float((moved - features).square().sum(1).mean()) > change(best, features)


def test_the_linear_map_changes_less_than_the_affine_one_without_its_offset():
    features, marks = labelled(5)
    affine, linear = fitted(features, marks), fitted(features, marks, offset=False)
    cut = Eraser(directions=affine.directions, reach=affine.reach, centre=None)
    assert change(affine, features) <= change(linear, features) < change(cut, features)


def test_on_centred_features_the_linear_map_is_the_affine_one():
    features, marks = labelled(6)
    features = features - features.mean(0)
    torch.testing.assert_close(
        fitted(features, marks, offset=False)(features), fitted(features, marks)(features), **EXACT
    )


def test_the_mean_stays_with_an_offset_and_zero_stays_without():
    features, marks = labelled(7)
    affine, linear = fitted(features, marks), fitted(features, marks, offset=False)
    torch.testing.assert_close(affine(features).mean(0), features.mean(0), **EXACT)
    assert not torch.allclose(linear(features).mean(0), features.mean(0))
    assert torch.equal(linear(torch.zeros(1, WIDTH)), torch.zeros(1, WIDTH).double())


@given(seed=seeds, labels=label_counts, shrinkage=shrinkages, offset=st.booleans())
def test_twice_is_once(seed, labels, shrinkage, offset):
    features, marks = labelled(seed, labels)
    eraser = fitted(features, marks, shrinkage=shrinkage, offset=offset)
    once = eraser(features)
    torch.testing.assert_close(eraser(once), once, rtol=1e-9, atol=1e-9)


@given(seed=seeds, offset=st.booleans())
def test_the_result_is_level_along_further_directions(seed, offset):
    features, marks = labelled(seed, 1)
    level = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    eraser = fitted(features, marks, offset=offset, level=level)
    after = eraser(features)
    assert eraser.rank == 3
    wanted = features.mean(0) @ level.T if offset else torch.zeros(2).double()
    torch.testing.assert_close(after @ level.T, wanted.expand(len(after), 2), rtol=0, atol=1e-8)
    assert cross_covariance(after, marks).abs().max() < 1e-9 * features.abs().max()
    # What is left elsewhere is still the best guess from what tells nothing.
    basis = torch.linalg.qr(level.T).Q
    elsewhere = torch.eye(WIDTH, dtype=torch.float64) - basis @ basis.T
    guess = by_regression(features, marks, intercept=offset)
    torch.testing.assert_close(after @ elsewhere, guess @ elsewhere, rtol=1e-8, atol=1e-8)


def test_a_level_direction_stands_once_and_null_is_none():
    features, marks = labelled(8, 1)
    told = 5 * cross_covariance(features, marks).T
    level = torch.cat([told, -told, torch.zeros(1, WIDTH).double()])
    eraser = fitted(features, marks, level=level)
    assert eraser.rank == 2
    torch.testing.assert_close((eraser(features) - features.mean(0)) @ told.T, torch.zeros(120, 1).double(), **EXACT)


@pytest.mark.parametrize("offset", [True, False])
def test_features_that_tell_nothing_are_left_alone(offset):
    features, _ = labelled(10)
    for rows, marks in (
        (features, torch.ones(len(features), 1)),
        (torch.ones(8, WIDTH), torch.eye(2).repeat(4, 1)),
        (torch.zeros(8, WIDTH), torch.eye(2).repeat(4, 1)),
    ):
        eraser = fitted(rows, marks, offset=offset)
        assert eraser.rank == 0
        assert torch.equal(eraser(rows), rows.double())


@pytest.mark.parametrize("offset", [True, False])
def test_the_stored_map_is_the_same_in_float32(offset):
    features, marks = labelled(11)
    eraser = fitted(features, marks, offset=offset)
    stored = eraser.as_map()
    assert (stored.rank, stored.offset is None) == (2, not offset)
    assert {part.dtype for part in (stored.down, stored.up)} == {torch.float32}
    torch.testing.assert_close(stored(features), eraser(features), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1])
def test_a_shrinkage_out_of_range_is_refused(shrinkage):
    with pytest.raises(ValueError, match=f"120 samples and shrinkage {shrinkage}"):
        fitted(*labelled(14), shrinkage=shrinkage)


def test_no_samples_make_no_eraser():
    with pytest.raises(ValueError, match="0 samples"):
        fit_eraser(Moments.empty(WIDTH, 1))
