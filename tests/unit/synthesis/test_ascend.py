"""Synthesis: recognised pictures, one at a time or all at once, from a model that stays as it was."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from clip_unlearn.core.progress import reporting
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.vectors import unit
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis import canvas
from clip_unlearn.synthesis.ascend import Ascent, Classes, ascend, synthesise
from clip_unlearn.synthesis.canvas import noise

WORDS = ("cat", "dog", "teapot")
SHORT = Ascent(steps=8, blur_every=3, starts=(1, 4), batch=4)


def rows(model, words=WORDS) -> torch.Tensor:
    with torch.no_grad():
        return unit(model.texts([f"a photo of a {word}." for word in words]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(model, settings=SHORT, *, count=3, seed=0, words=WORDS, wanted=None):
    found = rows(model, words)
    chosen = tuple(range(len(words))) if wanted is None else wanted
    classes = Classes(rows=found, wanted=chosen)
    return synthesise(
        model, found[list(chosen)], classes=classes, count=count, settings=settings, generator=seeded(seed)
    )


def in_double(model):
    """Return a copy of the model whose rounding cannot hide or make a difference."""
    return dataclasses.replace(model, module=copy.deepcopy(model.module).double())


def one_at_a_time(model, settings, count):
    """Return the pictures by the formula, one by one, with nothing shared but the noise and the shifts."""
    targets, space, generator = rows(model), model.adapter.pixels, seeded()
    side = (space.height, space.width)
    start = noise(len(targets) * count, side, settings.starts, generator).double()
    draws = torch.rand(settings.steps, 2, generator=generator).tolist()
    pictures = []
    for place, picture in enumerate(start):
        own, others = targets[place // count], [row for index, row in enumerate(targets) if index != place // count]
        velocity = torch.zeros_like(picture)
        for step, draw in enumerate(draws):
            if step and step % settings.blur_every == 0:
                picture = slowly_blurred(picture, settings.blur)
            left = 1 - step / settings.steps
            shift = [
                int(part * (int(settings.shift * left * length) + 1)) for part, length in zip(draw, side, strict=True)
            ]
            shifted = picture.roll(shift, (1, 2)).requires_grad_()
            embedding = model.images(space.normalise(shifted[None]))[0]
            score = cosine_similarity(embedding, own, 0)
            rival = max(cosine_similarity(embedding, other, 0) for other in others)
            across = (shifted[:, :, 1:] - shifted[:, :, :-1]).abs().mean()
            down = (shifted[:, 1:] - shifted[:, :-1]).abs().mean()
            distance = (shifted - 0.5).square().mean().sqrt()
            value = score - settings.others * rival - settings.norm * distance - settings.variation * (across + down)
            (gradient,) = torch.autograd.grad(value, shifted)
            gradient = gradient.roll([-part for part in shift], (1, 2))
            gradient = gradient / gradient.square().mean().sqrt()
            velocity = settings.momentum * velocity + (1 - settings.momentum) * gradient
            picture = (picture + left * settings.rate * velocity / velocity.square().mean().sqrt()).clamp(0, 1)
        pictures.append(picture)
    return torch.stack(pictures)


def slowly_blurred(picture, deviation):
    """Return the blurred picture [3, h, w], pixel by pixel of the kernel."""
    radius = max(1, round(3 * deviation))
    height, width = picture.shape[1:]
    total, weights = torch.zeros_like(picture), 0.0
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            weight = float(torch.exp(torch.tensor(-(down**2 + across**2) / (2 * deviation**2), dtype=torch.float64)))
            lines = (torch.arange(height) + down).clamp(0, height - 1)
            columns = (torch.arange(width) + across).clamp(0, width - 1)
            total, weights = total + weight * picture[:, lines][:, :, columns], weights + weight
    return total / weights


def test_the_literal_form_gives_the_same_pictures(tiny):
    model = in_double(tiny.model)
    fast = made(model, SHORT, count=2)
    torch.testing.assert_close(fast.pixels, one_at_a_time(model, SHORT, 2), rtol=0, atol=1e-5)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tiny):
    first, second, third = (made(tiny.model, seed=seed) for seed in (1, 1, 2))
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name
    assert not torch.equal(first.pixels, third.pixels)


def test_the_batch_size_decides_nothing(tiny):
    model = in_double(tiny.model)
    small, large = (made(model, SHORT.model_copy(update={"batch": batch})) for batch in (2, 100))
    torch.testing.assert_close(small.pixels, large.pixels, rtol=0, atol=1e-9)


def test_the_model_stays_as_it_was(tiny):
    """Also where weights ask for gradients: they get none."""
    own = dataclasses.replace(tiny.model, module=copy.deepcopy(tiny.model.module))
    for number, weight in enumerate(own.module.parameters()):
        weight.requires_grad_(number % 2 == 0)
    before, asked = own.fingerprint, [weight.requires_grad for weight in own.module.parameters()]
    made(own)
    assert dataclasses.replace(own).fingerprint == before
    assert [weight.requires_grad for weight in own.module.parameters()] == asked
    assert all(weight.grad is None for weight in own.module.parameters())
    assert not own.module.training


def test_columns_describe_the_pictures(tiny):
    found, targets = made(tiny.model, count=4), rows(tiny.model)
    space = tiny.model.adapter.pixels
    assert found.pixels.shape == (12, 3, space.height, space.width)
    assert float(found.pixels.min()) >= 0
    assert float(found.pixels.max()) <= 1
    with torch.no_grad():
        embeddings = tiny.model.images(space.normalise(found.pixels))
    torch.testing.assert_close(found.embeddings, embeddings, rtol=1e-4, atol=1e-5)
    cosine = unit(embeddings) @ targets.T
    own = torch.arange(3).repeat_interleave(4)
    torch.testing.assert_close(found.cosines, cosine[range(12), own], rtol=1e-4, atol=1e-5)
    shares = (tiny.model.logit_scale * cosine).softmax(1)
    torch.testing.assert_close(found.probabilities, shares[range(12), own], rtol=1e-3, atol=1e-5)
    assert found.accepted.tolist() == ((shares.argmax(1) == own) & (found.probabilities > 0.5)).tolist()
    assert found.steps.tolist() == [SHORT.steps] * 12
    assert not found.pixels.requires_grad


def test_a_picture_of_the_wrong_class_is_not_accepted(tiny_clip):
    """Pictures climb towards the cat, but are to be recognised as a dog."""
    targets = rows(tiny_clip.model)
    found = synthesise(
        tiny_clip.model, targets[:1], classes=Classes(rows=targets, wanted=(1,)), count=4,
        settings=Ascent(steps=20, others=0, probability=0), generator=seeded(),
    )  # fmt: skip
    assert not found.accepted.any()


@pytest.mark.parametrize("family", ["tiny_clip", "tiny_openclip", "sandbox", "sandbox-conv", "sandbox-openclip"])
def test_the_cosine_rises_far_above_that_of_noise(request, family):
    model = open_model(family) if family.startswith("sandbox") else request.getfixturevalue(family).model
    words = CLASS_NAMES[:3] if family.startswith("sandbox") else WORDS
    found, targets = made(model, Ascent(steps=30), words=words), rows(model, words)
    start = noise(9, (model.adapter.pixels.height, model.adapter.pixels.width), Ascent().starts, seeded())
    with torch.no_grad():
        before = (unit(model.images(model.adapter.pixels.normalise(start))) * targets.repeat_interleave(3, 0)).sum(1)
    assert float((found.cosines - before).mean()) > 0.2
    assert bool((found.cosines > before).all())


@pytest.mark.parametrize("family", ["sandbox", "sandbox-conv"])
@pytest.mark.parametrize(
    "words", [("mug", "spoon", "castle"), pytest.param(CLASS_NAMES, marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_the_embedded_models_recognise_most_pictures_of_each_class(family, words):
    model = open_model(family)
    found = made(model, Ascent(), count=8, words=CLASS_NAMES, wanted=tuple(CLASS_NAMES.index(word) for word in words))
    known = (unit(found.embeddings) @ rows(model, CLASS_NAMES).T).argmax(1).view(len(words), 8)
    for word, answers in zip(words, known, strict=True):
        assert int((answers == CLASS_NAMES.index(word)).sum()) >= 7, word


def test_accepted_pictures_can_stop_early():
    model = open_model("sandbox-conv")
    settings = Ascent(steps=60, check_every=5)
    found = made(model, settings, count=4, words=CLASS_NAMES, wanted=(0, 9, 20))
    early = found.steps < 60
    assert early.any()
    assert found.accepted[early].all()
    assert set((found.steps[early] % 5).tolist()) == {0}
    whole = made(model, settings.model_copy(update={"check_every": 0}), count=4, words=CLASS_NAMES, wanted=(0, 9, 20))
    assert float(found.cosines[early].mean()) < float(whole.cosines[early].mean())


def test_progress_counts_pictures(tiny_clip):
    seen = []
    with reporting(lambda *report: seen.append(report)):
        made(tiny_clip.model)
    assert seen == [("synthesise", 4, 9), ("synthesise", 8, 9), ("synthesise", 9, 9)]


def test_a_tower_without_gradients_is_refused(tiny_clip):
    def embed(module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return tiny_clip.model.adapter.image.embed(module, pixels)

    tower = dataclasses.replace(tiny_clip.model.adapter.image, embed=embed)
    model = dataclasses.replace(tiny_clip.model, adapter=dataclasses.replace(tiny_clip.model.adapter, image=tower))
    with pytest.raises(UnsupportedError, match=r"gives no gradients\. Use a method that needs none\.$"):
        made(model)


@pytest.mark.parametrize(("count", "wanted"), [(0, (0, 1, 2)), (1, (0, 1))])
def test_wrong_numbers_are_refused(tiny_clip, count, wanted):
    targets = rows(tiny_clip.model)
    with pytest.raises(ValueError, match="pictures for 3 targets"):
        synthesise(
            tiny_clip.model, targets, classes=Classes(rows=targets, wanted=wanted), count=count,
            settings=SHORT, generator=seeded(),
        )  # fmt: skip


def test_the_noise_stays_as_it_was(tiny_clip):
    """The ascent works in place, on a copy."""
    model, targets = tiny_clip.model, rows(tiny_clip.model)
    space = model.adapter.pixels
    start = noise(3, (space.height, space.width), (2,), seeded())
    before, draws = start.clone(), torch.rand(SHORT.steps, 2, generator=seeded())
    classes = Classes(rows=targets, wanted=(0, 1, 2))
    found = ascend(model, targets, classes=classes, start=start, draws=draws, settings=SHORT)
    assert torch.equal(start, before)
    assert not torch.equal(found.pixels, before)


def test_portions_decide_nothing(tiny, monkeypatch):
    """Also where some pictures have stopped: as many portions as there are left to do."""
    model, settings = (
        in_double(tiny.model),
        SHORT.model_copy(update={"check_every": 2, "probability": 0.34, "batch": 9}),
    )
    whole = made(model, settings)
    monkeypatch.setattr(canvas, "CPU_LEAST", 2)
    monkeypatch.setattr(canvas, "CPU_NUMBERS", 1)
    parts = made(model, settings)
    torch.testing.assert_close(parts.pixels, whole.pixels, rtol=0, atol=1e-9)
    assert parts.steps.tolist() == whole.steps.tolist()
