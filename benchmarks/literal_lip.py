"""The published Lip, written out slowly: what the fast form is checked against and timed against.

One picture at a time, two forward passes per step, gradients of all weights computed and thrown away, the class list
encoded name by name whenever it is needed, the whole model copied before every epoch, one noisy picture at a time.
The only departures from the published procedure are those that `lip_paper` makes too, so that both can give the same
numbers from the same noise: one pixel space, epochs judged by pictures that were not trained on, a limit of starts.

    python benchmarks/literal_lip.py MODEL NAME [NAME ...]

forgets the first name among all and prints how long each stage took.
"""

import copy
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.methods.lip_paper import LipPaper
from clip_unlearn.models.open import open_model
from clip_unlearn.synthesis.published import PublishedAscent

Rows: TypeAlias = Sequence[Sequence[float]]

DEVIATIONS = (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
"""Noise of each place of the schedule."""

MORE_IMAGE = (0, 2, 5, 8, 10, 15, 20)
MORE_TEXT = {"transformer": (0, 2, 5, 8, 10, 15, 20), "convolutional": (0, 2, 7, 13, 20, 25, 30)}
FIRST = {"transformer": 25, "convolutional": 5}
"""Tensors of a tower at the first place, and how many more there are at each."""


def loss_of(text: Tensor, images: Sequence[Tensor], noisy: Sequence[Sequence[Tensor]], lengths: Rows) -> Tensor:
    """Return the loss of one class, term by term: noisy[s][i] and lengths[s][i] belong to images[i]."""
    total = torch.zeros((), dtype=text.dtype)
    for draw, around in enumerate(noisy):
        for place, other in enumerate(around):
            target = other.detach()
            of_text = ((text - target) ** 2).sum().sqrt()
            of_image = ((images[place] - target) ** 2).sum().sqrt()
            total = total + (of_text + of_image) / (2 * float(lengths[draw][place]))
    return total / (2 * len(noisy))


def chosen(gradients: dict[str, Tensor], names: Sequence[str], count: int) -> list[str]:
    """Return the names with the largest mean absolute gradient, found one after the other."""
    left, found = sorted(name for name in names if name in gradients), list[str]()
    while left and len(found) < count:
        best = left[0]
        for name in left:
            if float(gradients[name].abs().mean()) > float(gradients[best].abs().mean()):
                best = name
        left.remove(best)
        found.append(best)
    return found


def class_list(model: Model, request: Request, names: Sequence[str]) -> Tensor:
    """Return the classifier, encoded name by name and sentence by sentence."""
    rows = []
    for name in names:
        parts = []
        for sentence in request.sentences([name]):
            embedding = model.texts([sentence])[0]
            parts.append(embedding / embedding.norm())
        rows.append(torch.stack(parts).mean(0))
    return torch.stack(rows)


def shares_of(model: Model, pixels: Tensor, rows: Tensor) -> list[float]:
    """Return the probability of every class for one picture [3, h, w] in [0, 1], by a forward pass of its own."""
    embedding = model.images(model.adapter.pixels.normalise(pixels[None]))[0]
    scores = []
    for row in rows:
        scores.append(model.logit_scale * float(((embedding @ row) / (embedding.norm() * row.norm())).detach()))
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def blurred_slowly(picture: Tensor, deviation: float) -> Tensor:
    """Return the blurred picture [3, h, w], one shifted copy for every place of the kernel."""
    radius = max(1, round(3 * deviation))
    height, width = picture.shape[1:]
    total, weights = torch.zeros_like(picture), 0.0
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            weight = math.exp(-(down**2 + across**2) / (2 * deviation**2))
            lines = (torch.arange(height) + down).clamp(0, height - 1)
            columns = (torch.arange(width) + across).clamp(0, width - 1)
            total, weights = total + weight * picture[:, lines][:, :, columns], weights + weight
    return total / weights


def one_picture(
    model: Model,
    rows: Tensor,
    wanted: int,
    start: Tensor,
    shifts: Tensor,
    settings: PublishedAscent,
    probability: float,
) -> tuple[Tensor, int, bool]:
    """Return a picture [3, h, w] in [0, 1], the steps it took and whether it was accepted."""
    space, target = model.adapter.pixels, rows[wanted]
    mean, deviation = (torch.tensor(values).to(start).view(3, 1, 1) for values in (space.mean, space.deviation))
    lowest, highest, factor = (0 - mean) / deviation, (1 - mean) / deviation, settings.scale(space)
    z = start
    for number in range(1, settings.steps + 1):
        down, right = shifts[number - 1].tolist()
        leaf = torch.roll(z, (down, right), (1, 2)).detach().requires_grad_()
        embedding = model.images(leaf[None])[0]
        cosine = (embedding @ target) / (embedding.norm() * target.norm())
        (model.logit_scale * cosine - settings.norm_penalty * leaf.norm()).backward()
        gradient = leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)
        z = leaf.detach() + settings.step_length * factor * gradient / gradient.norm()
        z = torch.maximum(torch.minimum(torch.roll(z, (-down, -right), (1, 2)), highest), lowest)
        if settings.blur_every and number % settings.blur_every == 0:
            z = blurred_slowly(z, settings.blur)
        pixels = (z * deviation + mean).clamp(0, 1)
        if number % settings.check_every and number < settings.steps:
            continue
        shares = shares_of(model, pixels, rows)
        if shares.index(max(shares)) == wanted and shares[wanted] > probability:
            return pixels, number, True
    return pixels, settings.steps, False


def all_pictures(
    model: Model, rows: Tensor, wanted: int, count: int, settings: PublishedAscent, generator: torch.Generator
) -> tuple[list[Tensor], list[int]]:
    """Return `count` accepted pictures and their steps; after every failure the wanted probability falls."""
    space, probability = model.adapter.pixels, settings.high_probability
    most, kept, steps = round(settings.largest_shift * settings.scale(space)), list[Tensor](), list[int]()
    for _ in range(settings.rounds * count):
        start = torch.randn(3, space.height, space.width, generator=generator).to(rows)
        shifts = torch.randint(most + 1, (settings.steps, 2), generator=generator)
        picture, taken, accepted = one_picture(model, rows, wanted, start, shifts, settings, probability)
        if accepted:
            kept.append(picture)
            steps.append(taken)
        else:
            probability = max(settings.lowest_probability, probability - settings.lower_by)
        if len(kept) == count:
            return kept, steps
    raise RuntimeError(f"{len(kept)} of {count} pictures")


def gradients_on(model: Model) -> Model:
    """Return a deep copy of the model in which every weight asks for a gradient."""
    module = copy.deepcopy(model.module)
    for weight in module.parameters():
        weight.requires_grad_()
    return dataclasses.replace(model, module=module)


def accuracy_of(model: Model, request: Request, names: Sequence[str], stop: Sequence[Sequence[Tensor]]) -> float:
    """Return the share of the pictures of each concept that come first as that concept, the class list made anew."""
    hits, count = 0, 0
    with torch.no_grad():
        rows = class_list(model, request, names)
        for place, pictures in enumerate(stop):
            for picture in pictures:
                shares = shares_of(model, picture, rows)
                hits, count = hits + (shares.index(max(shares)) == place), count + 1
    return hits / count


def backward(
    model: Model,
    method: LipPaper,
    request: Request,
    train: Sequence[Sequence[Tensor]],
    noise: Callable[[Tensor], Tensor],
) -> None:
    """Fill the gradients of all weights with those of the loss, summed over the concepts."""
    for name, pictures in zip(request.forget_names, train, strict=True):
        clean = [model.adapter.pixels.normalise(picture[None])[0] for picture in pictures]
        batch = torch.stack(clean)
        low, high = float(batch.min()), float(batch.max())
        noisy, lengths = list[list[Tensor]](), list[list[float]]()
        for _ in range(method.draws):
            drawn = noise(batch)
            around = [(one + each).clamp(low, high) for one, each in zip(clean, drawn, strict=True)]
            noisy.append([model.images(one[None])[0] for one in around])
            lengths.append([float((one - other).norm()) for one, other in zip(clean, around, strict=True)])
        text = model.texts([method.sentence.replace("{}", name)])[0]
        images = [model.images(one[None])[0] for one in clean]
        loss_of(text, images, noisy, lengths).backward()  # type: ignore[no-untyped-call]


def forgotten(
    model: Model,
    method: LipPaper,
    request: Request,
    pictures: Sequence[Sequence[Tensor]],
    generator: torch.Generator,
) -> tuple[Model, list[tuple[float, int, list[str]]]]:
    """Return the best model, and of every epoch the accuracy, the place in the schedule and what was selected.

    `pictures` are those of each concept, first those to train on, then those to judge by, [3, h, w] in [0, 1].
    """
    names = (*request.forget_names, *(request.retain or request.background))
    train = [each[: method.pictures] for each in pictures]
    stop = [each[method.pictures :] for each in pictures]
    towers = tower_tensors(model, convolutions=method.schedule == "transformer")
    current = gradients_on(model)
    optimiser = _optimiser(current, towers, method)
    best, place, told = 1.0, 0, list[tuple[float, int, list[str]]]()
    while len(told) < method.epochs and place < len(DEVIATIONS) and best > method.stop_accuracy:
        saved, saved_moments = copy.deepcopy(current), copy.deepcopy(optimiser.state_dict())
        deviation = DEVIATIONS[place]
        current.module.zero_grad(set_to_none=True)
        backward(current, method, request, train, lambda x, d=deviation: d * _noise(x, generator))  # type: ignore[misc]
        found = {name: weight.grad for name, weight in current.weights.items() if weight.grad is not None}
        selected = [
            name
            for names_of, more in ((towers["image"], MORE_IMAGE), (towers["text"], MORE_TEXT[method.schedule]))
            for name in chosen(found, names_of, FIRST[method.schedule] + more[place])
        ]
        for name, weight in current.weights.items():
            if name not in selected and weight.is_floating_point():
                weight.grad = None
        optimiser.step()
        accuracy = accuracy_of(current, request, names, stop)
        told.append((accuracy, place, selected))
        if accuracy < best:
            best = accuracy
        else:
            current, place = saved, place + 1
            optimiser = _optimiser(current, towers, method)
            optimiser.load_state_dict(saved_moments)
    return current, told


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def _optimiser(model: Model, towers: Mapping[Any, tuple[str, ...]], method: LipPaper) -> torch.optim.Optimizer:
    names = list(dict.fromkeys(name for tower in towers.values() for name in tower))
    kind = torch.optim.AdamW if method.decoupled else torch.optim.Adam
    weights = [model.weights[name] for name in names]
    return kind(weights, lr=method.learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=method.weight_decay)


def main(where: str, names: Sequence[str]) -> None:
    """Forget the first name among all and print the seconds of each stage."""
    model, method, generator = open_model(where), LipPaper(), torch.Generator().manual_seed(0)
    request = Request(forget=(Concept(name=names[0]),), retain=tuple(names[1:]))
    began, slow = time.perf_counter(), gradients_on(model)
    rows = class_list(model, request, names).detach()
    pictures, steps = all_pictures(slow, rows, 0, method.pictures + method.stop_pictures, method.ascent, generator)
    made = time.perf_counter()
    _, told = forgotten(model, method, request, [pictures], generator)
    done = time.perf_counter()
    print(f"{len(pictures)} pictures, {sum(steps)} steps: {made - began:.1f} s")
    print(f"{len(told)} epochs: {done - made:.1f} s; accuracy {[accuracy for accuracy, _, _ in told]}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
