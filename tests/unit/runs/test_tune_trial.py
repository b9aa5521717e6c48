"""One trial: what counts as a failure, what is measured, and what an interrupted run leaves behind."""

from pathlib import Path
from typing import ClassVar, Literal, final

import pytest
import torch
from pydantic import Field

from clip_unlearn.core import journal
from clip_unlearn.core.journal import journaling
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.answers import answers
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, DivergedError, UnsupportedError
from clip_unlearn.methods.project import Project
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.run import make_patch
from clip_unlearn.runs.tune_trial import Bench, make_bench
from clip_unlearn.sandbox.classes import CLASS_NAMES

REQUEST = Request(forget=(Concept(name="mug"),), retain=tuple(name for name in CLASS_NAMES if name != "mug"))
SEEN: list[Request] = []


@final
class Fake(Method):
    """Do what a test asks for."""

    does: Literal["diverge", "nothing", "refuse", "deep", "step"] = "nothing"
    reason: str = ""
    needs_images: bool = Field(default=False)
    needs: ClassVar = frozenset({"texts"})

    def requires(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"texts", "images"}) if self.needs_images else self.needs

    def forget(self, model: Model, request: Request) -> Patch:
        SEEN.append(request)
        if self.does == "diverge":
            raise DivergedError("The loss is no number.")
        if self.does == "refuse":
            raise UnsupportedError("No such side.")
        if self.does == "step":
            journal.step("half way", lambda: {"one": torch.ones(1)})
            raise KeyboardInterrupt
        if self.does == "deep":
            name = next(name for name, weight in model.weights.items() if weight.ndim > 1)
            return Patch(deltas={name: torch.full_like(model.weights[name].detach(), 0.05)})
        return Patch(reason=self.reason)


@pytest.fixture(scope="module")
def sandbox() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


@pytest.fixture(scope="module")
def pictures() -> ImageSet:
    """Return four pictures of every class."""
    images = open_data("sandbox:photo", split="select")
    return images.take([index for index in range(len(images)) if index % 34 < 4])


@pytest.fixture
def bench(sandbox: Model, pictures: ImageSet, tmp_path: Path) -> Bench:
    return make_bench(sandbox, REQUEST, pictures, budget=1.0, steps=tmp_path / "steps")


def test_what_is_measured_is_what_the_edited_model_answers(bench: Bench, sandbox: Model, pictures: ImageSet) -> None:
    for method in (Project(strength=0.8), Fake(does="deep")):
        outcome = bench.outcome(method)
        edited = make_patch(sandbox, REQUEST, method).apply(sandbox)
        right = answers(edited, pictures, REQUEST).ranks == 1
        assert torch.equal(outcome.hits, right)
        found = bench.trial(3, {"strength": 0.8}, outcome)
        own = torch.tensor(pictures.labels) == CLASS_NAMES.index("mug")
        assert found.forget is not None
        assert found.retain is not None
        assert found.cost is not None
        assert (found.forget.value, found.forget.count) == (pytest.approx(float(right[own].double().mean())), 4)
        assert (found.retain.value, found.retain.count) == (pytest.approx(float(right[~own].double().mean())), 108)
        assert found.cost.value == pytest.approx(found.retain.value - bench.before[1].value)
        assert found.forget.low < found.forget.high
        assert (found.number, found.settings, found.failure) == (3, {"strength": 0.8}, "")


def test_the_unedited_model(bench: Bench, sandbox: Model, pictures: ImageSet) -> None:
    forget, retain = bench.before
    assert forget.value == 1
    assert forget.count + retain.count == len(pictures)
    assert {forget.subject, retain.subject} == {"before"}


@pytest.mark.parametrize(("budget", "within"), [(100 * 1 / 108, True), (100 * 1 / 108 - 0.01, False)])
def test_the_budget_counts_pictures_that_are_lost(
    sandbox: Model, pictures: ImageSet, tmp_path: Path, *, budget: float, within: bool
) -> None:
    bench = make_bench(sandbox, REQUEST, pictures, budget=budget, steps=tmp_path)
    hits = bench.scene.margins > 0
    hits[(hits & ~bench.forgotten).nonzero()[0]] = False
    outcome = bench.outcome(Project())
    lost = bench.trial(1, {}, type(outcome)(hits=hits, seconds=0))
    assert lost.within is within
    assert lost.cost is not None
    assert lost.cost.value == pytest.approx(-1 / 108)


def test_failures_have_a_reason(bench: Bench) -> None:
    diverged = bench.trial(1, {}, bench.outcome(Fake(does="diverge")))
    assert (diverged.failure, diverged.reason) == ("diverged", "The loss is no number.")
    assert (diverged.forget, diverged.retain, diverged.cost, diverged.within) == (None, None, None, False)
    empty = bench.trial(2, {}, bench.outcome(Fake(reason="Nothing helped.")))
    assert (empty.failure, empty.reason) == ("nothing changed", "Nothing helped.")
    assert bench.outcome(Fake()).reason == "The patch changes nothing."


def test_other_errors_are_not_swallowed(bench: Bench) -> None:
    with pytest.raises(UnsupportedError, match="No such side"):
        bench.outcome(Fake(does="refuse"))


def test_images_are_given_to_methods_that_ask_for_them(sandbox: Model, pictures: ImageSet, tmp_path: Path) -> None:
    evidence = Evidence(where="sandbox@stop", digest="0" * 64)
    request = Request(**{**REQUEST.model_dump(), "evidence": evidence.model_dump()})
    bench = make_bench(sandbox, request, pictures, budget=1, steps=tmp_path)
    SEEN.clear()
    bench.outcome(Fake())
    bench.outcome(Fake(needs_images=True))
    assert [one.evidence for one in SEEN] == [None, evidence]


def test_a_journal_keeps_outcomes_and_the_steps_of_the_one_that_was_interrupted(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), journaling(tmp_path / "journal", resume=False):
        first = bench.outcome(Project(strength=0.5))
        failed = bench.outcome(Fake(does="diverge"))
        assert not bench.steps.exists()
        bench.outcome(Fake(does="step"))
    assert len(list(bench.steps.iterdir())) == 1
    SEEN.clear()
    with journaling(tmp_path / "journal", resume=True):
        again = bench.outcome(Project(strength=0.5))
        assert torch.equal(again.hits, first.hits)
        assert again.seconds == first.seconds
        assert bench.outcome(Fake(does="diverge")).reason == failed.reason
    assert SEEN == []


def test_pictures_must_show_both(sandbox: Model, pictures: ImageSet, tmp_path: Path) -> None:
    mug = CLASS_NAMES.index("mug")
    for rows, hint in (
        ([place for place, label in enumerate(pictures.labels) if label != mug], "nothing of what is to be forgotten"),
        ([place for place, label in enumerate(pictures.labels) if label == mug], "no class but those to forget"),
    ):
        with pytest.raises(DataError, match=hint):
            make_bench(sandbox, REQUEST, pictures.take(rows), budget=1, steps=tmp_path)
