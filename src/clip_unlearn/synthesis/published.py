"""The published ascent, for comparison: plain steps, all pictures at once. n pictures, m targets, d width."""

from dataclasses import dataclass
from typing import Final, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model, PixelSpace
from clip_unlearn.core.progress import report
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.scores import cosines
from clip_unlearn.maths.vectors import unit
from clip_unlearn.synthesis.ascend import Classes, Synthetic
from clip_unlearn.synthesis.canvas import blurred, few_threads, portions

_TINY: Final = 1e-12


@final
class PublishedAscent(Config):
    """How the published method makes a picture from noise. Lengths are in pixels and in normalised brightness."""

    steps: int = Field(default=3000, ge=1, le=100_000)
    """Most steps of a picture; nothing makes it take more."""

    step_length: float = Field(default=25.0, gt=0)
    """Euclidean length of every step, over all numbers of a normalised picture of the published side."""

    norm_penalty: float = Field(default=1e-3, ge=0)
    """Weight of the Euclidean length of the normalised picture, which is to stay small."""

    largest_shift: int = Field(default=16, ge=0)
    """Largest circular shift in each direction of a picture of the published side, drawn anew for every step."""

    published_side: int = Field(default=224, ge=0)
    """Side of the pictures that length and shift are meant for; others take them in proportion. 0: as they are."""

    blur_every: int = Field(default=10, ge=0)
    """Steps between two blurs; 0 for none."""

    blur: float = Field(default=0.5, gt=0, le=5)
    """Standard deviation of the Gaussian blur."""

    high_probability: float = Field(default=0.8, ge=0, lt=1)
    """A picture is accepted when its class comes first and has more than this probability."""

    lower_by: float = Field(default=0.025, ge=0, le=1)
    """Fall of the wanted probability after every picture that took all steps and was not accepted."""

    lowest_probability: float = Field(default=0.45, ge=0, lt=1)
    """Least that the wanted probability falls to."""

    check_every: int = Field(default=1, ge=1)
    """Steps between two looks at which pictures are accepted."""

    batch: int = Field(default=64, ge=1)
    """Pictures in memory at once. The wanted probability falls between batches, so 1 is the published loop."""

    rounds: int = Field(default=4, ge=1)
    """Most times that the number of wanted pictures is started; then the ascent gives up."""

    def scale(self, space: PixelSpace) -> float:
        """Return the factor on length and shift for the pictures of a model, 1 at the published side."""
        return float((space.height * space.width) ** 0.5 / self.published_side) if self.published_side else 1.0

    @model_validator(mode="after")
    def _check_probabilities(self) -> Self:
        if self.lowest_probability > self.high_probability:
            raise ValueError("lowest_probability is above high_probability")
        return self


def climb(
    model: Model,
    targets: Tensor,
    classes: Classes,
    *,
    count: int,
    settings: PublishedAscent,
    generator: torch.Generator,
) -> Synthetic:
    """Return `count` accepted pictures for every target direction [m, d], by the published ascent.

    A picture z starts as standard normal noise in the model's own normalised space. Every step: shift it circularly by
    whole numbers in 0..largest_shift; g = gradient of exp(logit scale) cos(v(z), t) - norm_penalty ||z||_2;
    z = z + step_length g / ||g||_2; undo the shift; clamp to what pixels in [0, 1] are in that space; blur after every
    `blur_every`-th step. It is accepted as soon as its class comes first with more than the wanted probability, and
    what is accepted is what is returned, in pixels. Weights take no gradients and stay as they are. Noise and shifts
    are drawn from `generator` on the CPU, batch by batch. Unlike in the published code there is one space throughout:
    no second normalisation by other constants, and no stretching of the accepted picture to the whole range. Length
    and shift are those of pictures with 224 pixels a side: a step that moves such a picture a little would drown a
    small one.

    Raises:
        UnsupportedError: if the image tower gives no gradients, or fewer than `count` pictures of a target are accepted
            within `rounds` x `count` starts of `steps` steps each.
        ValueError: if `count` < 1 or there is not one wanted class per target.
    Source: Kravets and Namboodiri, arXiv 2407.07485, stage A; constants are those of the authors' code.
    """
    if count < 1 or len(classes.wanted) != len(targets):
        raise ValueError(f"{count} pictures for {len(targets)} targets of {len(classes.wanted)} wanted classes")
    columns: list[tuple[Tensor, ...]] = []
    rows = unit(classes.rows.detach()).to(model.device)
    for number, (target, wanted) in enumerate(zip(unit(targets.detach()).to(rows), classes.wanted, strict=True)):
        one = _Target(model=model, own=target, rows=rows, wanted=wanted, settings=settings)
        with few_threads(model):
            columns.append(one.pictures(count, generator, number * count, len(targets) * count))
    pixels, embeddings, cosine, probabilities, steps = (torch.cat(column) for column in zip(*columns, strict=True))
    return Synthetic(
        pixels=pixels,
        embeddings=embeddings,
        cosines=cosine,
        probabilities=probabilities,
        accepted=torch.ones_like(steps, dtype=torch.bool),
        steps=steps,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Target:
    """The ascent towards one direction [d] that is to be recognised as row `wanted` of the class list."""

    model: Model
    own: Tensor
    rows: Tensor
    wanted: int
    settings: PublishedAscent

    def pictures(self, count: int, generator: torch.Generator, done: int, total: int) -> tuple[Tensor, ...]:
        """Return `count` accepted pictures: pixels, embeddings, cosines, probabilities, steps."""
        settings, found, kept, failed = self.settings, [], 0, 0
        starts = settings.rounds * count
        while kept < count and starts:
            probability = max(settings.lowest_probability, settings.high_probability - settings.lower_by * failed)
            some = min(count - kept, settings.batch, starts)
            pixels, probabilities, accepted, steps = self._climbed(some, probability, generator)
            if bool(accepted.any()):  # not every library embeds a batch of none
                embeddings = self._embedded(pixels[accepted])
                cosine = unit(embeddings.to(self.own)) @ self.own
                found.append((pixels[accepted], embeddings, cosine, probabilities[accepted], steps[accepted]))
            kept, starts = kept + int(accepted.sum()), starts - some
            failed += some - int(accepted.sum())
            report("synthesise", done + kept, total)
        if kept < count:
            raise UnsupportedError(
                f"{kept} of {count} pictures were recognised as wanted, with a probability above {probability:.3g} "
                f"within {settings.steps} steps. Allow more steps or a lower probability."
            )
        return tuple(torch.cat(column) for column in zip(*found, strict=True))

    def _climbed(self, count: int, probability: float, generator: torch.Generator) -> tuple[Tensor, ...]:
        settings, space = self.settings, self.model.adapter.pixels
        z = torch.randn(count, 3, space.height, space.width, generator=generator)
        most = round(settings.largest_shift * settings.scale(space))
        shifts = torch.randint(most + 1, (count, settings.steps, 2), generator=generator)
        z = z.to(self.model.device, torch.promote_types(self.own.dtype, torch.float32))
        lowest, highest = _bounds(space, z)
        active = torch.arange(count, device=z.device)
        steps, reached = torch.zeros_like(active), z.new_zeros(count, dtype=torch.float32)
        accepted = torch.zeros_like(active, dtype=torch.bool)
        for number in range(1, settings.steps + 1):
            moved = self._stepped(z[active], shifts[active.cpu(), number - 1].to(z.device)).clamp(lowest, highest)
            if settings.blur_every and number % settings.blur_every == 0:
                moved = blurred(moved, settings.blur)
            z[active], steps[active] = moved, number
            if number % settings.check_every and number < settings.steps:
                continue
            reached[active], accepted[active] = self._judged(_in_pixels(moved, lowest, highest), probability)
            active = active[~accepted[active]]
            if not len(active):
                break
        return _in_pixels(z, lowest, highest), reached, accepted, steps

    def _stepped(self, z: Tensor, shift: Tensor) -> Tensor:
        shifted, space = rolled(z, shift), self.model.adapter.pixels
        found = torch.cat([self._slope(shifted[part]) for part in portions(len(z), z)])
        length = found.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(_TINY)
        return rolled(shifted + self.settings.step_length * self.settings.scale(space) * found / length, -shift)

    def _slope(self, shifted: Tensor) -> Tensor:
        """Return the gradient of the objective at pictures that run through the model at once."""
        with torch.enable_grad():
            shifted = shifted.detach().requires_grad_()
            embeddings = self.model.images(shifted)
            if not embeddings.requires_grad:
                raise UnsupportedError("The model's image tower gives no gradients. Use a method that needs none.")
            cosine = unit(embeddings.to(self.own)) @ self.own
            length = shifted.square().sum((1, 2, 3)).clamp_min(_TINY).sqrt()
            objective = (self.model.logit_scale * cosine - self.settings.norm_penalty * length).sum()
            # With respect to the pixels alone: backward() would also fill .grad of weights that ask for it.
            (found,) = torch.autograd.grad(objective, shifted)
        return found

    @torch.no_grad()
    def _embedded(self, pixels: Tensor) -> Tensor:
        normalised = self.model.adapter.pixels.normalise(pixels)
        return torch.cat([self.model.images(normalised[part]) for part in portions(len(pixels), pixels)])

    def _judged(self, pixels: Tensor, probability: float) -> tuple[Tensor, Tensor]:
        shares = (self.model.logit_scale * cosines(self._embedded(pixels), self.rows)).softmax(1)
        own = shares[:, self.wanted]
        return own, (shares.argmax(1) == self.wanted) & (own > probability)


def rolled(pictures: Tensor, shift: Tensor) -> Tensor:
    """Return every picture shifted circularly by its own whole numbers, down and right. [n, 3, h, w], [n, 2]."""
    count, _, height, width = pictures.shape
    down = (torch.arange(height, device=pictures.device) - shift[:, :1]) % height
    right = (torch.arange(width, device=pictures.device) - shift[:, 1:]) % width
    down, right = down.view(count, 1, height, 1), right.view(count, 1, 1, width)
    return pictures.gather(2, down.expand_as(pictures)).gather(3, right.expand_as(pictures))


def _bounds(space: PixelSpace, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return what black and white are in the model's normalised space: [1, 3, 1, 1] each."""
    black = torch.zeros(1, len(space.mean), 1, 1, dtype=like.dtype, device=like.device)
    return space.normalise(black), space.normalise(black + 1)


def _in_pixels(z: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    return ((z - lowest) / (highest - lowest)).clamp(0, 1)
