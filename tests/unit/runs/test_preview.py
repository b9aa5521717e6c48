"""What an edit would do, listed before it is made: against a slow formula and against what happens."""

from typing import Any

import pytest
import torch
from scipy import stats

from clip_unlearn.core.config import build
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.data.answers import answers, class_texts
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.scores import cosines
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.project import Project
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.plan import plan
from clip_unlearn.runs.preview import Move, Preview, preview
from clip_unlearn.runs.recipe import Recipe
from clip_unlearn.runs.run import make_patch
from clip_unlearn.sandbox.classes import CLASS_NAMES

RETAIN = [name for name in CLASS_NAMES if name != "mug"]
NAMES = {"retain": RETAIN, "background": "none"}


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


def recipe(**values: Any) -> Recipe:
    given = {"model": "sandbox", "forget": ["mug | cup"], "method": {"name": "project", "strength": 0.8}, **values}
    return build(Recipe, given, where="recipe")


@pytest.fixture(scope="module")
def measured(sandbox: Model) -> Preview:
    """Return what is listed with pictures."""
    return preview(recipe(data="sandbox:photo"), model=sandbox)


def slow_margin(scores: torch.Tensor, own: int) -> float:
    return float(scores[own]) - max(float(score) for place, score in enumerate(scores) if place != own)


@pytest.mark.parametrize("side", ["image", "text"])
def test_margins_by_the_slow_formula(sandbox: Model, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(**NAMES)
    request = plan(asked, model=sandbox).request
    edit = Project(strength=0.8).forget(sandbox, request).outputs["image"]
    monkeypatch.setattr(Project, "forget", lambda *_: Patch(outputs={side: edit}))
    names = (*RETAIN, "mug", "cup")
    rows = class_texts(sandbox, request, names)
    found = preview(asked, model=sandbox)
    assert {move.name for move in found.moves} == set(RETAIN)
    for move in found.moves:
        own = names.index(move.name)
        pictures, texts = unit(rows[own : own + 1]), rows
        before = slow_margin(cosines(pictures, texts)[0], own)
        pictures, texts = (edit(pictures), texts) if side == "image" else (pictures, edit(texts))
        after = slow_margin(cosines(pictures, texts)[0], own)
        assert (move.before, move.after) == pytest.approx((before, after), abs=1e-5)
        assert move.predicted == pytest.approx(after - before, abs=1e-5)
        assert (move.pictures, move.measured, move.accuracy) == (0, None, None)


def test_those_that_move_most_come_first(measured: Preview) -> None:
    moves = [abs(move.predicted) for move in measured.moves]
    assert moves == sorted(moves, reverse=True)
    assert moves[0] > 0.05


def test_what_is_measured_is_what_happens(sandbox: Model, measured: Preview) -> None:
    images = open_data("sandbox:photo")
    request = plan(recipe(data="sandbox:photo"), model=sandbox).request
    edited = make_patch(sandbox, request, Project(strength=0.8)).apply(sandbox)
    first, second = answers(sandbox, images, request), answers(edited, images, request)
    names = (*images.classes, "cup")
    sides = [
        cosines(known.embeddings, class_texts(model, request, names))
        for known, model in ((first, sandbox), (second, edited))
    ]
    for move in measured.moves:
        own = images.class_index(move.name)
        rows = (first.labels == own).nonzero().flatten().tolist()
        before, after = ([slow_margin(scores[row], own) for row in rows] for scores in sides)
        assert move.pictures == len(rows) == 34
        assert move.measured == pytest.approx((sum(after) - sum(before)) / len(rows), abs=1e-4)
        right = [sum(margin > 0 for margin in side) for side in (before, after)]
        assert move.accuracy == pytest.approx((right[1] - right[0]) / len(rows), abs=1e-6)


def test_the_prediction_is_compared_with_what_happens(measured: Preview) -> None:
    pairs = [(move.predicted, move.measured) for move in measured.moves]
    slow = stats.kendalltau(*zip(*pairs, strict=True)).statistic
    assert measured.agreement is not None
    assert measured.agreement.count == len(RETAIN) == len(measured.moves)
    assert 0.5 < measured.agreement.value < 1
    assert slow < measured.agreement.value
    assert measured.agreement.p_value < 0.01


def test_what_was_used_is_told(sandbox: Model, measured: Preview) -> None:
    assert measured.model.where == "sandbox"
    assert measured.model.digest == sandbox.fingerprint
    assert (measured.method, measured.settings["strength"]) == ("project", 0.8)
    assert measured.forget[0].names[:2] == ("mug", "cup")
    assert measured.retained == len(RETAIN)
    assert measured.background > 1000
    assert measured.data is not None
    assert (measured.data.where, measured.data.count) == ("sandbox:photo", 34 * 28)
    assert measured.readings == ()


def test_the_background_is_listed_where_nothing_is_retained(sandbox: Model) -> None:
    found = preview(recipe(), model=sandbox)
    assert (found.retained, len(found.moves)) == (0, found.background)
    assert found.agreement is None
    assert found.data is None


def test_names_to_retain_and_classes_of_the_data_are_listed_once(sandbox: Model) -> None:
    found = preview(recipe(data="sandbox:photo", retain=["Teapot", "saucepan"], background="none"), model=sandbox)
    names = [move.name for move in found.moves]
    assert sorted(names) == sorted(["Teapot", "saucepan", *(name for name in RETAIN if name != "teapot")])
    by_name = {move.name: move for move in found.moves}
    assert by_name["Teapot"].pictures == 34
    assert by_name["saucepan"].pictures == 0
    assert by_name["saucepan"].measured is None


def test_a_setting_within_a_budget(sandbox: Model) -> None:
    asked = recipe(method={"name": "project", "strength": "auto"}, budget=0.5, **NAMES)
    found = preview(asked, model=sandbox)
    assert 0.01 < found.settings["strength"] < 1
    (reading,) = found.readings
    assert 100 * reading.value >= -0.5


def test_an_edit_that_changes_nothing_moves_nothing(sandbox: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "forget", lambda *_: Patch(reason="Nothing found."))
    found = preview(recipe(data="sandbox:photo"), model=sandbox)
    assert found.reason == "Nothing found."
    assert {move.predicted for move in found.moves} == {0}
    assert {move.measured for move in found.moves} == {0}
    assert found.agreement is None


def test_an_offset_acts_on_embeddings_as_long_as_those_of_pictures(
    sandbox: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An offset of half the mean length is half of what a name's unit embedding is."""
    request = plan(recipe(data="sandbox:photo"), model=sandbox).request
    length = float(answers(sandbox, open_data("sandbox:photo"), request).embeddings.norm(dim=1).mean())
    offset = 0.5 * length * unit(class_texts(sandbox, request, ["axe"]))[0]
    edit = AffineMap(down=torch.zeros(len(offset), 1), up=torch.zeros(1, len(offset)), offset=offset)
    monkeypatch.setattr(Project, "forget", lambda *_: Patch(outputs={"image": edit}))
    found = preview(recipe(data="sandbox:photo"), model=sandbox)
    row = unit(class_texts(sandbox, request, ["teapot"]))[0]
    picture = row + 0.5 * unit(class_texts(sandbox, request, ["axe"]))[0]
    scores = cosines(picture.unsqueeze(0), class_texts(sandbox, request, [*RETAIN, "mug", "cup"]))[0]
    teapot = next(move for move in found.moves if move.name == "teapot")
    assert teapot.after == pytest.approx(slow_margin(scores, RETAIN.index("teapot")), abs=1e-3)


def test_few_classes_have_no_rank_correlation(sandbox: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from clip_unlearn.runs.preview import _agreement

    moves = tuple(Move(name=name, before=0, after=at, predicted=at, measured=at) for name, at in (("a", 1), ("b", 2)))
    assert _agreement(moves) is None
    assert _agreement((*moves, moves[0].model_copy(update={"measured": 3.0}))) is not None


def test_nothing_to_list(sandbox: Model) -> None:
    with pytest.raises(
        UnsupportedError, match=r"no name to list\. Give --retain NAMES, --background nouns, or --data\.$"
    ):
        preview(recipe(background="none", method={"name": "project", "strength": 0.5, "centre": "none"}), model=sandbox)
