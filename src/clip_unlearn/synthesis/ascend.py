"""Pictures by gradient ascent on the cosine with a text, all at once. n pictures, m targets, k classes, d width."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, final

import torch
from pydantic import Field
from torch import Tensor

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import report
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.scores import cosines
from clip_unlearn.maths.vectors import unit
from clip_unlearn.synthesis.canvas import GREY, blurred, few_threads, noise, portions, variation

_TINY: Final = 1e-12


@final
class Ascent(Config):
    """How pictures are made from noise. Brightness is in [0, 1], lengths are in pixels."""

    steps: int = Field(default=60, ge=1, le=10_000)
    """Most steps of a picture; nothing makes it take more."""

    rate: float = Field(default=0.04, gt=0, le=1)
    """Change in the first step, a root mean square over the pixels; it falls to 0 in a straight line."""

    momentum: float = Field(default=0.5, ge=0, lt=1)
    """Share of the previous direction in the next one; it averages over the shifts."""

    shift: float = Field(default=0.05, ge=0, le=0.5)
    """Largest circular shift in the first step, as a share of the side; it falls to 0 in a straight line."""

    blur_every: int = Field(default=10, ge=0)
    """Steps between two blurs; 0 for none."""

    blur: float = Field(default=0.5, gt=0, le=5)
    """Standard deviation of the Gaussian blur."""

    norm: float = Field(default=0.01, ge=0)
    """Weight of the penalty on the distance from middle grey, a root mean square over the pixels."""

    variation: float = Field(default=0.1, ge=0)
    """Weight of the penalty on the mean absolute difference of neighbouring pixels."""

    others: float = Field(default=0.3, ge=0)
    """Weight of the cosine with the nearest other class, which is pushed away; 0 to look at the target alone."""

    starts: tuple[int, ...] = Field(default=(2, 4, 8, 16), min_length=1)
    """Sizes of the grains of the noise that pictures start from, taken in turn."""

    probability: float = Field(default=0.5, ge=0, lt=1)
    """A picture is accepted when its class comes first and has more than this probability."""

    check_every: int = Field(default=0, ge=0)
    """Steps between two looks at which pictures are accepted already and stop; 0 to let all take every step."""

    batch: int = Field(default=64, ge=1)
    """Pictures in memory at once; changes the time, not the pictures beyond rounding."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """The list that a picture has to be recognised in."""

    rows: Tensor
    """Classifier rows, text embeddings [k, d]."""

    wanted: tuple[int, ...]
    """For every target, the row that its pictures should be recognised as: m indices."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Synthetic:
    """Pictures, target by target: n = m x count rows in each column, on the model's device."""

    pixels: Tensor
    """In [0, 1], before `model.adapter.pixels.normalise`: [n, 3, height, width]."""

    embeddings: Tensor
    """What the model makes of them, not normalised: [n, d]."""

    cosines: Tensor
    """With the own target: [n]."""

    probabilities: Tensor
    """Of the wanted class, softmax of logit scale x cosine over the classes: [n]."""

    accepted: Tensor
    """Whether the wanted class comes first and has more than `Ascent.probability`: [n], bool."""

    steps: Tensor
    """Steps taken by each picture: [n]."""


def synthesise(
    model: Model, targets: Tensor, *, classes: Classes, count: int, settings: Ascent, generator: torch.Generator
) -> Synthetic:
    """Return `count` pictures for every target direction [m, d], made from noise by ascent in pixel space.

    In step i of N, with a = 1 - i/N, every picture x with target t: g = gradient of
    cos(v(x), t) - others max cos(v(x), other rows) - norm rms(x - 1/2) - variation mean|neighbour differences|
    at the shifted picture;
    u = momentum u + (1 - momentum) g / rms(g); x = clamp(x + a rate u / rms(u)); a blur every few steps.
    Weights take no gradients and stay as they are. Noise and shifts are drawn from `generator` on the CPU before the
    first step, so neither the batch size nor the other pictures decide over one.

    Raises:
        UnsupportedError: if the model's image tower gives no gradients.
        ValueError: if `count` < 1 or there is not one wanted class per target.
    Source: Kravets and Namboodiri, arXiv 2407.07485, one picture at a time; momentum and the falling rate are ours.
    """
    if count < 1 or len(classes.wanted) != len(targets):
        raise ValueError(f"{count} pictures for {len(targets)} targets of {len(classes.wanted)} wanted classes")
    side = (model.adapter.pixels.height, model.adapter.pixels.width)
    start = noise(len(targets) * count, side, settings.starts, generator)
    draws = torch.rand(settings.steps, 2, generator=generator)
    own = targets.detach().repeat_interleave(count, 0)
    wanted = [row for row in classes.wanted for _ in range(count)]
    parts = []
    for first in range(0, len(start), settings.batch):
        some = slice(first, first + settings.batch)
        listed = Classes(rows=classes.rows, wanted=tuple(wanted[some]))
        parts.append(ascend(model, own[some], classes=listed, start=start[some], draws=draws, settings=settings))
        report("synthesise", min(first + settings.batch, len(start)), len(start))
    return joined(parts)


def ascend(model: Model, own: Tensor, *, classes: Classes, start: Tensor, draws: Tensor, settings: Ascent) -> Synthetic:
    """Return what becomes of pictures in one batch, each with a target and noise of its own; see `synthesise`.

    `own` are the targets [n, d], `classes.wanted` one row per picture, `start` the noise [n, 3, height, width], `draws`
    the shifts of each step in [0, 1), the same for all pictures: [steps, 2].

    Raises:
        UnsupportedError: if the model's image tower gives no gradients.
    """
    directions = unit(own.detach().to(model.device))
    climb = _Climb(
        model=model,
        own=directions,
        rows=unit(classes.rows.detach().to(directions)),
        wanted=torch.tensor(classes.wanted, device=model.device),
        settings=settings,
    )
    with few_threads(model):
        pixels, embeddings, cosine, probabilities, accepted, steps = climb(start, draws)
    return Synthetic(
        pixels=pixels,
        embeddings=embeddings,
        cosines=cosine,
        probabilities=probabilities,
        accepted=accepted,
        steps=steps,
    )


def joined(parts: Sequence[Synthetic]) -> Synthetic:
    """Return the pictures of all parts, in order; at least one part."""
    columns = {each.name: torch.cat([getattr(part, each.name) for part in parts]) for each in fields(Synthetic)}
    return Synthetic(**columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Climb:
    """The ascent of one batch of pictures."""

    model: Model
    own: Tensor
    rows: Tensor
    wanted: Tensor
    settings: Ascent

    def __call__(self, start: Tensor, draws: Tensor) -> tuple[Tensor, ...]:
        settings = self.settings
        pixels = start.to(self.model.device, torch.promote_types(self.own.dtype, torch.float32), copy=True)
        velocity, every = torch.zeros_like(pixels), torch.arange(len(pixels), device=pixels.device)
        steps, active = torch.zeros_like(every), every
        for number, draw in enumerate(draws.tolist()):
            if settings.check_every and number and number % settings.check_every == 0:
                active = active[~self._judged(self._embedded(_some(pixels, active)), active)[1]]
            if not len(active):
                break
            moving, pace = _some(pixels, active), _some(velocity, active)
            if settings.blur_every and number and number % settings.blur_every == 0:
                moving = blurred(moving, settings.blur)
            left = 1 - number / settings.steps
            most = (settings.shift * left * side for side in pixels.shape[2:])
            shift = [int(d * (int(m) + 1)) for d, m in zip(draw, most, strict=True)]
            direction = _level(self._gradient(moving, active, shift))
            # In place on tensors of its own: pictures that all move are not copied back and forth.
            pace = pace.mul_(settings.momentum).add_(direction.mul_(1 - settings.momentum))
            moving = moving.add_(_level(pace).mul_(left * settings.rate)).clamp_(0, 1)
            pixels, velocity = _put(pixels, active, moving), _put(velocity, active, pace)
            steps[active] = number + 1
        embeddings = self._embedded(pixels)
        cosine = (unit(embeddings.to(self.own)) * self.own).sum(1)
        return pixels, embeddings, cosine, *self._judged(embeddings, every), steps

    def _gradient(self, pixels: Tensor, which: Tensor, shift: list[int]) -> Tensor:
        shifted = pixels.roll(shift, (2, 3))
        found = [self._slope(shifted[part], which[part]) for part in portions(len(pixels), pixels)]
        return torch.cat(found).roll([-step for step in shift], (2, 3))

    def _slope(self, shifted: Tensor, which: Tensor) -> Tensor:
        """Return the gradient of the objective at pictures that run through the model at once."""
        with torch.enable_grad():
            shifted = shifted.detach().requires_grad_()
            embeddings = self.model.images(self.model.adapter.pixels.normalise(shifted))
            if not embeddings.requires_grad:
                raise UnsupportedError("The model's image tower gives no gradients. Use a method that needs none.")
            own, directions = self.own[which], unit(embeddings.to(self.own))
            distance = (shifted - GREY).square().mean((1, 2, 3)).clamp_min(_TINY).sqrt()
            penalty = self.settings.norm * distance + self.settings.variation * variation(shifted)
            rival = (directions @ self.rows.T).scatter(1, self.wanted[which].unsqueeze(1), -1.0).amax(1)
            objective = ((directions * own).sum(1) - self.settings.others * rival - penalty).sum()
            # With respect to the pixels alone: backward() would also fill .grad of weights that ask for it.
            (found,) = torch.autograd.grad(objective, shifted)
        return found

    @torch.no_grad()
    def _embedded(self, pixels: Tensor) -> Tensor:
        normalised = self.model.adapter.pixels.normalise(pixels)
        return torch.cat([self.model.images(normalised[part]) for part in portions(len(pixels), pixels)])

    def _judged(self, embeddings: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        shares = (self.model.logit_scale * cosines(embeddings, self.rows)).softmax(1)
        probability = shares.gather(1, self.wanted[which].unsqueeze(1)).squeeze(1)
        return probability, (shares.argmax(1) == self.wanted[which]) & (probability > self.settings.probability)


def _level(direction: Tensor) -> Tensor:
    return direction / direction.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(_TINY)


def _some(columns: Tensor, which: Tensor) -> Tensor:
    """Return rows of their own, or the tensor itself where all are asked for: `which` is ascending."""
    return columns if len(which) == len(columns) else columns[which]


def _put(columns: Tensor, which: Tensor, values: Tensor) -> Tensor:
    """Return the columns with these rows at their places, changed in place unless they are all new."""
    if len(which) == len(columns):
        return values
    columns[which] = values
    return columns
