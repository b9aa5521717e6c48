"""How a loss is descended: settings, optimisers, and their state as named tensors that a journal can hold."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, final

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.optim import SGD, Adafactor, Adam, AdamW, Optimizer

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model, TowerName

OptimiserName: TypeAlias = Literal["adafactor", "adam", "adamw", "sgd"]


@final
class Descent(Config):
    """How long, on what and how fast a loss is descended."""

    steps: int = Field(default=100, ge=1)
    """Most steps."""

    optimiser: OptimiserName = "adafactor"
    """adafactor moves every tensor by `rate` of the root mean square of its own entries, so one rate suits models of
    every size, and keeps almost no state; adam, adamw and sgd take steps of one size everywhere, as most papers do."""

    rate: float = Field(default=1e-3, gt=0, le=10)
    """Learning rate of the first step."""

    schedule: Literal["constant", "cosine"] = "cosine"
    """How the rate goes on: as it is, or down to nothing along half a cosine."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of sgd; the others have none, or their own."""

    weight_decay: float = Field(default=0.0, ge=0, le=1)
    """Decay towards zero; in adam and sgd it is added to the gradient, in the others it is not."""

    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; a longer one is shortened."""

    towers: Literal["both", "image", "text"] = "both"
    """The encoders that are trained; the other one is not run, its embeddings are looked up."""

    depth: Literal["encoder", "readout"] = "encoder"
    """What of them is trained: all of it, or the last linear layer alone, for which every image and sentence is run
    through the rest once."""

    forget_batch: int = Field(default=16, ge=1)
    """Images of what is to be forgotten in a step."""

    retain_batch: int = Field(default=32, ge=1)
    """Images of what is to be retained in a step."""

    part: int | None = Field(default=None, ge=1)
    """Inputs that are embedded with a graph at a time; fewer take less memory and one more forward pass, and change the
    result by rounding alone. All of a step if not given."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the encoders' passes; auto takes bfloat16 where the device computes it natively."""

    check_every: int = Field(default=10, ge=1)
    """Steps between two looks at images that are not learned from."""

    patience: int = Field(default=4, ge=1)
    """Looks without improvement after which training ends."""

    def make(self, weights: Sequence[Tensor]) -> Optimizer:
        """Return the optimiser of the weights, before its first step."""
        if self.optimiser == "sgd":
            return SGD(weights, lr=self.rate, momentum=self.momentum, weight_decay=self.weight_decay)
        if self.optimiser == "adafactor":
            return Adafactor(weights, lr=self.rate, weight_decay=self.weight_decay)
        kind = Adam if self.optimiser == "adam" else AdamW
        return kind(weights, lr=self.rate, weight_decay=self.weight_decay)

    def rate_at(self, step: int, steps: int, factor: float = 1.0) -> float:
        """Return the learning rate of a step, counted from 0, of so many; `factor` shortens all of them."""
        falling = 0.5 * (1 + math.cos(math.pi * step / steps)) if self.schedule == "cosine" else 1.0
        return self.rate * factor * falling

    @property
    def trains(self) -> frozenset[TowerName]:
        """Return the towers that get gradients."""
        return frozenset({"image", "text"} if self.towers == "both" else {self.towers})

    def autocast(self, model: Model) -> torch.dtype | None:
        """Return the number format of the passes, None for that of the weights."""
        if self.precision == "bfloat16" or (self.precision == "auto" and _native(model.device)):
            return torch.bfloat16
        return None


def _of_whole_towers(settings: Descent) -> Descent:
    if settings.depth == "readout":
        raise ValueError("this method learns from pixels, which a last layer never sees; give descent.depth=encoder")
    return settings


WholeDescent: TypeAlias = Annotated[Descent, AfterValidator(_of_whole_towers)]
"""How a loss is descended that is one of pixels."""


def replaced(settings: Descent, *, part: int | None) -> Descent:
    """Return the settings with parts of another size."""
    return Descent(**{**settings.model_dump(), "part": part})


def _native(device: torch.device) -> bool:
    """Return whether the device computes bfloat16 as fast as it stores it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def state_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return the state of an optimiser, copied: `place/name` of every tensor that it keeps for a weight."""
    states = optimiser.state_dict()["state"]
    return {
        f"{place}/{name}": torch.as_tensor(value).clone()
        for place, values in states.items()
        for name, value in values.items()
        if value is not None
    }


def restore(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimiser the state that `state_tensors` returned."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        place, _, name = key.partition("/")
        states.setdefault(int(place), {})[name] = value.clone()
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
