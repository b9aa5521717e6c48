"""Time estimates of audits: the sum by hand, what a budget has room for, and counts that follow the settings."""

from dataclasses import replace

import pytest

from clip_unlearn import probes
from clip_unlearn.cli.flags import parse_seconds
from clip_unlearn.core.audit import Audit
from clip_unlearn.core.probe import Probe
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.work import Size, Work
from clip_unlearn.data.embed import to_embed
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import SettingError
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.audit.fine_tuning import FineTuning
from clip_unlearn.probes.audit.image_refit import ImageRefit
from clip_unlearn.probes.audit.linear_probe import LinearProbe
from clip_unlearn.probes.audit.module_revert import ModuleRevert
from clip_unlearn.probes.audit.prompt_ensemble import PromptEnsemble
from clip_unlearn.probes.audit.prototype import Prototype
from clip_unlearn.probes.audit.relearning import Relearning
from clip_unlearn.probes.audit.wordings import Wordings
from clip_unlearn.runs.estimate import Speed, estimates, size_of, speed_of, within
from clip_unlearn.sandbox.classes import CLASS_NAMES

SIZE = Size(images=900, forgotten=30, support=500, classes=28, background=27, templates=2)
REQUEST = Request(forget=(Concept(name="mug"),), retain=tuple(name for name in CLASS_NAMES if name != "mug"))


def test_seconds_by_hand() -> None:
    """A pair of training is there and back: three times an image and a sentence."""
    speed = Speed(image=0.1, sentence=0.01)
    assert speed.seconds(Work(images=20, sentences=100, trained=10)) == pytest.approx(2 + 1 + 3.3)
    slow = Speed(image=0.1, sentence=0.01, opening=0.5)
    assert slow.seconds(Work(images=20, support=4, names=100)) == pytest.approx(2 + 4 * (0.1 + 0.5) + 1)
    rough = Speed(image=0.1, sentence=0.01, weight=0.001)
    assert rough.seconds(Work(images=20, rewritten=500)) == pytest.approx(2 + 0.5)
    beside = Speed(image=0.1, sentence=0.01, product=1e-9)
    assert beside.seconds(Work(multiplied=3e9, varied=100)) == pytest.approx(3 + 1)
    assert (Work(rewritten=1) + Work(rewritten=2)) == Work(rewritten=3)
    assert (Work(images=1) + Work(sentences=2, trained=3)) == Work(images=1, sentences=2, trained=3)


def test_what_is_made_on_what() -> None:
    images = open_data("sandbox:photo", split="audit")
    model = open_model("sandbox")
    edited = Redirect().forget(model, REQUEST).folded(model).apply(model)
    size = size_of(images, 500, REQUEST, (model, edited))
    assert (size.images, size.forgotten) == (len(images), images.labels.count(CLASS_NAMES.index("mug")))
    assert (size.support, size.classes, size.background, size.templates) == (500, 28, 27, len(REQUEST.templates))
    assert (size.image_towers, size.text_towers) == (1, 1)
    other = size_of(images, 500, REQUEST, (model, open_model("oracle-mug-0")))
    assert (other.image_towers, other.text_towers) == (2, 2)


@pytest.mark.parametrize("name", [name for name in probes.names() if issubclass(probes.find(name), Audit)])
def test_every_audit_says_how_much_it_takes(name: str) -> None:
    model = open_model("sandbox")
    edited = Redirect().forget(model, REQUEST).folded(model).apply(model)
    work = probes.find(name)().work(model, edited, SIZE)
    assert min(work.images, work.sentences, work.trained) >= 0
    # The first has its images embedded for it; the second is not made without a judge.
    assert name in ("image_search", "class_inversion") or work != Work()


def test_counts_follow_the_settings() -> None:
    model = open_model("sandbox")
    edited = Redirect().forget(model, REQUEST).folded(model).apply(model)

    def work(probe: Probe) -> Work:
        return probe.work(model, edited, SIZE)

    assert work(FineTuning(steps=100, rates=(0.1, 0.2), depth="all")).trained == 2 * 2 * 100 * 32
    assert work(FineTuning(steps=100)).trained == 0
    assert work(FineTuning(steps=100)).images > 2 * 100 * 32
    assert work(ImageRefit(images=100)).support == 2 * (100 + 30)
    assert work(ImageRefit()).support == 2 * (500 + 30)  # No more than there are.
    assert work(Wordings(sentences="a {}")).sentences == work(Wordings()).sentences / 12
    assert work(LinearProbe(draws=6)).multiplied == 2 * work(LinearProbe(draws=3)).multiplied > 0
    assert work(Relearning(steps=100)).multiplied == 2 * work(Relearning(steps=50)).multiplied > 0
    assert work(ModuleRevert(images=10)).images < work(ModuleRevert()).images


def test_what_is_kept_for_later_audits_is_counted_once() -> None:
    model, speed = open_model("sandbox"), Speed(image=1.0, sentence=0.0)
    alone, first, second = (
        estimates(probes, (model, model), SIZE, speed)
        for probes in ([ImageRefit()], [ImageRefit(), ImageRefit()], [ImageRefit(images=100), ImageRefit()])
    )
    forgotten = 2 * SIZE.forgotten
    assert alone == (forgotten + 2 * (500 + 30),)
    assert first == (*alone, forgotten)
    assert second == (forgotten + 2 * (100 + 30), forgotten + 2 * 400)


def test_names_in_many_templates_are_embedded_once() -> None:
    """Those of the ensemble are among those that are asked one at a time."""
    model, speed = open_model("sandbox"), Speed(image=0.0, sentence=1.0)
    _, alone, after = estimates([Wordings(), PromptEnsemble(), PromptEnsemble()], (model, model), SIZE, speed)
    assert (alone, after) == (0, 0)
    assert estimates([PromptEnsemble()], (model, model), SIZE, speed)[0] == 2 * 28 * 12


def test_few_images_of_every_class_are_the_same_for_all_that_learn_from_them() -> None:
    """500 images are fewer than 20 of each of 28 classes; of 600 each attack draws its own."""
    model, speed = open_model("sandbox"), Speed(image=1.0, sentence=0.0, opening=1.0)
    probe = Prototype(shots=(1,))
    first, again = estimates([probe, probe], (model, model), SIZE, speed)
    assert (first, again) == (2 * (2 * 500), 0)
    many = replace(SIZE, support=600)
    assert estimates([probe, probe], (model, model), many, speed) == (2 * 560, 2 * 560)


def test_models_that_share_a_tower_embed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", "off")
    model, images = open_model("sandbox"), open_data("sandbox:photo", split="audit")
    edited = Redirect().forget(model, REQUEST).folded(model).apply(model)
    assert to_embed([model], images) == 1
    assert to_embed([model, edited], images) == 1
    assert to_embed([model, edited, open_model("oracle-mug-0")], images) == 2


def test_a_budget_is_spent_in_the_order_of_the_suite() -> None:
    every = (Wordings(), FineTuning(), ImageRefit())
    kept, left_out = within(every, (5, 100, 4), 10)
    assert kept == (every[0], every[2])
    assert [one.probe for one in left_out] == ["fine_tuning"]
    assert left_out[0].reason == "it would take about 100 s, and 5 s of the budget are left"
    assert within(every, (5, 100, 4), -3)[0] == ()


def test_the_speed_of_a_model_is_measured() -> None:
    model = open_model("sandbox")
    speed = speed_of(model, open_data("sandbox:photo", split="audit"), REQUEST)
    assert 0 < speed.image < 1
    assert 0 < speed.sentence < 1
    assert 0 < speed.opening < 1
    assert 0 < speed.weight < 1e-5
    assert 0 < speed.product < 1e-6
    (one,) = estimates([Wordings()], (model, model), SIZE, speed)
    work = Wordings().work(model, model, SIZE)
    assert one == pytest.approx(speed.sentence * (work.sentences + work.varied))


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), (" 2 h ", 7200)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text, where="--budget") == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "5d", "a m", "1e9"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SettingError, match="--budget"):
        parse_seconds(text, where="--budget")
