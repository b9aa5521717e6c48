"""The published ascent: the same pictures as the slow loop, and an end where the published loop had none."""

import copy
import dataclasses

import pytest
import torch
from torch import nn

from benchmark_modules import load
from clip_unlearn.core.config import build
from clip_unlearn.core.progress import reporting
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis.ascend import Classes
from clip_unlearn.synthesis.published import PublishedAscent, climb, rolled

literal = load("literal_lip")
WORDS = ("cat", "dog", "teapot")
EASY = PublishedAscent(steps=12, blur_every=3, high_probability=0.36, lower_by=0.02, lowest_probability=0.0)


def rows(model, words=WORDS) -> torch.Tensor:
    with torch.no_grad():
        return unit(model.texts([f"a photo of a {word}." for word in words]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(model, settings=EASY, *, wanted=(1,), count=3, seed=0, words=WORDS):
    found = rows(model, words)
    classes = Classes(rows=found, wanted=wanted)
    return climb(model, found[list(wanted)], classes, count=count, settings=settings, generator=seeded(seed))


def in_double(model):
    return dataclasses.replace(model, module=copy.deepcopy(model.module).double())


def changed(settings, **values):
    return PublishedAscent(**{**settings.model_dump(), **values})


def best_known(model) -> int:
    """Return the word that most noise is taken for: a random model cannot be led to every word."""
    side = (model.adapter.pixels.height, model.adapter.pixels.width)
    with torch.no_grad():
        embeddings = model.images(torch.randn(32, 3, *side, generator=seeded()))
    return int((unit(embeddings) @ rows(model).T).argmax(1).mode().values)


def test_one_at_a_time_it_is_the_published_loop(tiny):
    """Two forward passes, weight gradients, a list of probabilities: the same pictures from the same generator."""
    model, settings = in_double(tiny.model), changed(EASY, batch=1, rounds=20)
    wanted = best_known(model)
    found = made(model, settings, wanted=(wanted,))
    slow, steps = literal.all_pictures(literal.gradients_on(model), rows(model), wanted, 3, settings, seeded())
    torch.testing.assert_close(found.pixels, torch.stack(slow), rtol=0, atol=1e-6)
    assert found.steps.tolist() == steps


@pytest.mark.parametrize("word", [0, 2])
def test_all_at_once_each_picture_is_what_it_is_alone(tiny, word):
    """In a list of one class every picture is recognised, so all take all steps: 4 in a batch, 4 calls of the loop."""
    model, settings = in_double(tiny.model), changed(EASY, steps=12, check_every=12)
    side, most = (model.adapter.pixels.height, model.adapter.pixels.width), round(16 * 32 / 224)
    generator, own = seeded(), rows(model)[word : word + 1]
    start = torch.randn(4, 3, *side, generator=generator).double()
    shifts = torch.randint(most + 1, (4, 12, 2), generator=generator)
    slow = literal.gradients_on(model)
    alone = [literal.one_picture(slow, own, 0, *each, settings, 0.36)[0] for each in zip(start, shifts, strict=True)]
    found = climb(model, own, Classes(rows=own, wanted=(0,)), count=4, settings=settings, generator=seeded())
    torch.testing.assert_close(found.pixels, torch.stack(alone), rtol=0, atol=1e-6)
    assert found.steps.tolist() == [12] * 4


def test_the_sandbox_gives_the_same_pictures_as_the_loop():
    model = in_double(open_model("sandbox"))
    settings, place = PublishedAscent(batch=1), CLASS_NAMES.index("cat")
    found = made(model, settings, wanted=(place,), count=2, words=CLASS_NAMES)
    slow = literal.gradients_on(model)
    pictures, steps = literal.all_pictures(slow, rows(model, CLASS_NAMES), place, 2, settings, seeded())
    torch.testing.assert_close(found.pixels, torch.stack(pictures), rtol=0, atol=1e-6)
    assert found.steps.tolist() == steps
    assert max(steps) > settings.blur_every


def test_after_a_failure_less_is_wanted(tiny_clip):
    """One step, from noise alone: the first start fails at .99, the second is accepted at nothing."""
    model = in_double(tiny_clip.model)
    strict = PublishedAscent(steps=1, high_probability=0.99, lower_by=0, lowest_probability=0.0, batch=1, rounds=2)
    with pytest.raises(UnsupportedError, match="^0 of 1 pictures"):
        made(model, strict, count=1)
    found = made(model, changed(strict, lower_by=0.99), count=1)
    slow, _ = literal.all_pictures(
        literal.gradients_on(model), rows(model), 1, 1, changed(strict, lower_by=0.99), seeded()
    )
    torch.testing.assert_close(found.pixels[0], slow[0], rtol=0, atol=1e-6)
    assert 0 < float(found.probabilities[0]) < 0.99


def test_an_unreachable_probability_ends_within_the_limit_of_steps(tiny_clip):
    passes = []

    def counted(module, pixels):
        passes.append(len(pixels))
        return tiny_clip.model.adapter.image.embed(module, pixels)

    tower = dataclasses.replace(tiny_clip.model.adapter.image, embed=counted)
    model = dataclasses.replace(tiny_clip.model, adapter=dataclasses.replace(tiny_clip.model.adapter, image=tower))
    settings = PublishedAscent(steps=5, high_probability=0.999, lower_by=0, rounds=2)
    message = r"^0 of 3 pictures .* above 0\.999 within 5 steps\. Allow more steps or a lower probability\.$"
    with pytest.raises(UnsupportedError, match=message):
        made(model, settings)
    assert sum(passes) == 2 * 3 * (5 + 5)  # starts x (steps and looks)


def test_the_model_stays_as_it_was(tiny_clip):
    """Also where weights ask for gradients: they get none."""
    own = dataclasses.replace(tiny_clip.model, module=copy.deepcopy(tiny_clip.model.module))
    for number, weight in enumerate(own.module.parameters()):
        weight.requires_grad_(number % 2 == 0)
    before, asked = own.fingerprint, [weight.requires_grad for weight in own.module.parameters()]
    made(own)
    assert dataclasses.replace(own).fingerprint == before
    assert [weight.requires_grad for weight in own.module.parameters()] == asked
    assert all(weight.grad is None for weight in own.module.parameters())


@pytest.mark.parametrize("family", ["sandbox", "sandbox-conv", "sandbox-openclip"])
def test_what_is_returned_is_exactly_what_was_accepted(family):
    """One pixel space: the pictures as they are, in [0, 1], are recognised with more than the wanted probability."""
    model, wanted = open_model(family), (CLASS_NAMES.index("mug"), CLASS_NAMES.index("car"))
    found = made(model, PublishedAscent(steps=300), wanted=wanted, count=4, words=CLASS_NAMES)
    assert float(found.pixels.min()) >= 0
    assert float(found.pixels.max()) <= 1
    assert found.accepted.all()
    with torch.no_grad():
        embeddings = model.images(model.adapter.pixels.normalise(found.pixels))
    shares = (model.logit_scale * unit(embeddings) @ rows(model, CLASS_NAMES).T).softmax(1)
    labels = torch.tensor(wanted).repeat_interleave(4)
    assert shares.argmax(1).tolist() == labels.tolist()
    assert float(shares[range(8), labels].min()) > 0.8
    torch.testing.assert_close(found.probabilities, shares[range(8), labels], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.embeddings, embeddings, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        found.cosines, (unit(embeddings) @ rows(model, CLASS_NAMES).T)[range(8), labels], rtol=1e-4, atol=1e-5
    )


def test_looks_are_taken_as_often_as_asked():
    model = open_model("sandbox")
    found = made(model, PublishedAscent(check_every=4), wanted=(CLASS_NAMES.index("cat"),), count=6, words=CLASS_NAMES)
    assert {steps % 4 for steps in found.steps.tolist()} == {0}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tiny_clip):
    first, second, third = (made(tiny_clip.model, seed=seed) for seed in (1, 1, 2))
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name
    assert not torch.equal(first.pixels, third.pixels)


def test_every_picture_has_a_shift_of_its_own():
    pictures = torch.rand(3, 3, 5, 7, generator=seeded())
    shifts = torch.tensor([[0, 0], [2, -3], [-1, 6]])
    wanted = [torch.roll(one, tuple(shift.tolist()), (1, 2)) for one, shift in zip(pictures, shifts, strict=True)]
    assert torch.equal(rolled(pictures, shifts), torch.stack(wanted))


@pytest.mark.parametrize(("side", "published", "factor"), [(224, 224, 1), (56, 224, 0.25), (56, 0, 1)])
def test_lengths_are_those_of_the_published_side(tiny_clip, side, published, factor):
    space = dataclasses.replace(tiny_clip.model.adapter.pixels, height=side, width=side)
    assert PublishedAscent(published_side=published).scale(space) == factor


def test_progress_counts_accepted_pictures(tiny_clip):
    seen = []
    with reporting(lambda *report: seen.append(report)):
        made(tiny_clip.model, changed(EASY, batch=2, high_probability=0.0, steps=100), wanted=(1, 1))
    assert seen[-1] == ("synthesise", 6, 6)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_tower_without_gradients_is_refused(tiny_clip):
    def embed(module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return tiny_clip.model.adapter.image.embed(module, pixels)

    tower = dataclasses.replace(tiny_clip.model.adapter.image, embed=embed)
    model = dataclasses.replace(tiny_clip.model, adapter=dataclasses.replace(tiny_clip.model.adapter, image=tower))
    with pytest.raises(UnsupportedError, match=r"gives no gradients\. Use a method that needs none\.$"):
        made(model)


@pytest.mark.parametrize(("count", "wanted"), [(0, (0, 1, 2)), (1, (0, 1))])
def test_wrong_numbers_of_pictures_are_refused(tiny_clip, count, wanted):
    targets = rows(tiny_clip.model)
    with pytest.raises(ValueError, match="pictures for 3 targets"):
        climb(
            tiny_clip.model, targets, Classes(rows=targets, wanted=wanted), count=count, settings=EASY,
            generator=seeded(),
        )  # fmt: skip


def test_a_floor_above_the_wanted_probability_is_refused():
    with pytest.raises(SettingError, match=r"lowest_probability is above high_probability"):
        build(PublishedAscent, {"high_probability": 0.3}, where="ascent")
