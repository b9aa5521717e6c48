"""Just in time: the loss on noisy copies, what gets a gradient, and what trains."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from descent_cases import (
    captioned_request,
    check_gradient,
    check_same_bytes,
    fake_step,
    labelled_request,
    losses,
    numbers,
    reached,
)

from clip_unlearn.core.training import Descent
from clip_unlearn.methods.jit import Jit, loss_of

QUICK = Descent(**{**Jit().descent.model_dump(), "steps": 3, "forget_batch": 4})
MIXING = torch.randn(48, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def embedded(pixels):
    """Return embeddings of noisy pixels, not of length 1, as a model gives them."""
    assert not torch.is_grad_enabled()
    return torch.tanh(pixels.flatten(1) @ MIXING) + 0.5


def with_model(step):
    """Return a made-up step that can embed further pixels."""
    embedder = SimpleNamespace(draft=SimpleNamespace(images=embedded))
    shown = {name: getattr(step, name) for name in ("forget", "names", "scale", "generator")}
    return SimpleNamespace(**shown, embedder=embedder)


def written_out(method, step):
    """Return the loss of the docstring, image by image and copy by copy."""
    random, pixels, total = step.fresh_generator(), step.forget.pixels, 0.0
    images, names = numbers(step.forget.images), numbers(step.names)
    for _ in range(method.draws):
        noise = method.sigma * torch.randn(pixels.shape, generator=random, dtype=torch.float64)
        with torch.no_grad():
            copies = numbers(embedded(pixels + noise))
        for image, copy, shift in zip(images, copies, numbers(noise), strict=True):
            copy = copy / np.sqrt(np.sum(copy**2))
            if method.output == "logits":
                gap = [step.scale * (image @ name) - step.scale * (copy @ name) for name in names]
            else:
                gap = image - copy
            total += np.sqrt(np.sum(np.square(gap))) / np.sqrt(np.sum(shift**2))
    return total / method.draws


@pytest.mark.parametrize("output", ["logits", "embedding"])
@pytest.mark.parametrize(("sigma", "draws"), [(0.8, 1), (0.3, 4), (2.0, 3)])
def test_the_loss_is_the_formula(output, sigma, draws):
    method, step = Jit(output=output, sigma=sigma, draws=draws), fake_step()
    assert float(loss_of(method, with_model(step)).detach()) == pytest.approx(written_out(method, step), abs=1e-9)


@pytest.mark.parametrize(
    ("output", "moved"), [("logits", {"forget.images", "names"}), ("embedding", {"forget.images"})]
)
def test_the_gradient_is_that_of_the_clean_images(output, moved):
    method, step = Jit(output=output, draws=2), fake_step(at_start=True)
    assert reached(loss_of(method, with_model(step)), step) == moved
    if output == "embedding":
        check_gradient(lambda each: loss_of(method, with_model(each)), fake_step)


def test_noisy_copies_count_as_fixed_also_by_the_names():
    method, step, nudge = Jit(draws=3), fake_step(), 1e-6
    found = torch.autograd.grad(loss_of(method, with_model(step)), step.names)[0]
    images, random, wanted = step.forget.images.detach(), step.fresh_generator(), torch.zeros(2, dtype=torch.float64)
    for _ in range(3):
        noise = 0.8 * torch.randn(step.forget.pixels.shape, generator=random, dtype=torch.float64)
        with torch.no_grad():
            copies = torch.nn.functional.normalize(embedded(step.forget.pixels + noise), dim=1)
        fixed = step.scale * copies @ step.names.detach().T
        for place, (row, column) in enumerate(((0, 0), (4, 7))):
            values = []
            for sign in (1, -1):
                names = step.names.detach().clone()
                names[row, column] += sign * nudge
                gap = (step.scale * images @ names.T - fixed).norm(dim=1)
                values.append(float((gap / noise.flatten(1).norm(dim=1)).sum() / 3))
            wanted[place] += (values[0] - values[1]) / (2 * nudge)
    assert [float(found[0, 0]), float(found[4, 7])] == pytest.approx(wanted.tolist(), rel=1e-6)


def test_it_is_plain_descent_of_the_image_tower_with_the_published_noise():
    method = Jit()
    assert (method.sigma, method.draws, method.output) == (0.8, 25, "logits")
    settings = method.descent
    assert (settings.optimiser, settings.momentum, settings.weight_decay) == ("sgd", 0.0, 0.0)
    assert (settings.schedule, settings.towers) == ("constant", "image")


@pytest.mark.parametrize("output", ["logits", "embedding"])
def test_training_lowers_the_loss_and_leaves_the_text_tower_alone(tiny_clip, tmp_path, output):
    request = labelled_request(tmp_path)
    method = Jit(output=output, draws=4, descent=Descent(**{**QUICK.model_dump(), "rate": 0.3}))
    patch = check_same_bytes(method, tiny_clip.model, request)
    assert not any("text" in name for name in patch.deltas)
    before, after = losses(method, loss_of, tiny_clip.model, request, patch)
    assert after < 0.97 * before


def test_captions_will_do(tiny_clip, tmp_path):
    request, method = captioned_request(tmp_path), Jit(sentences="captions", draws=2, descent=QUICK)
    patch = method.forget(tiny_clip.model, request)
    assert {reading.name for reading in patch.readings} == {"stop-set forget accuracy", "stop-set retain accuracy"}
    senses = Jit(sentences="captions", draws=2, descent=QUICK, other_senses=("very cat", "old cat", "big cat", "a cat"))
    counts = [each.forget(tiny_clip.model, request).readings[0].count for each in (method, senses)]
    assert counts[1] < counts[0]


@pytest.mark.parametrize("settings", [{"sigma": 0.0}, {"draws": 0}, {"output": "pixels"}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Jit(**settings)


def test_the_text_tower_cannot_smooth_an_embedding_of_images():
    text = Descent(towers="text")
    with pytest.raises(ValueError, match=r"give descent\.towers=image"):
        Jit(output="embedding", descent=text)
    assert Jit(descent=text).descent == text
