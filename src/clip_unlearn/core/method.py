"""What every method is: settings that validate themselves, and one function from a request to a patch."""

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal, Self, TypeAlias

import torch

from clip_unlearn.core.config import Config
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.errors import UnsupportedError

Need: TypeAlias = Literal["texts", "retain", "images", "gradients", "readout"]
"""texts: the names. retain: names to keep. images: `request.evidence`. gradients: differentiable encoders.
readout: towers that end in a linear layer."""


class Method(Config, abc.ABC):
    """A way to forget. Abstract or final: a method is subclassed once and never again."""

    needs: ClassVar[frozenset[Need]] = frozenset({"texts"})
    """What must be there with default settings; `requires` says it for the settings given."""

    paper: ClassVar[str] = ""
    """Where the method comes from."""

    ceiling: ClassVar[str] = "F5"
    """The highest grade that the method can earn by construction; F2 for edits of the last layer."""

    tunable: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """Settings that a budget can choose when their value is `auto`, each with its gentlest and its strongest value."""

    retain_floor: ClassVar[float] = 0.9
    """Share of the other classes' accuracy that the method must keep in the embedded world; a law of the tests."""

    @abc.abstractmethod
    def forget(self, model: Model, request: Request) -> Patch:
        """Return the edit. Same model, request and settings give the same bytes."""

    def settled(self, model: Model, request: Request) -> Self:
        """Return the method with every setting fixed that it chooses by a rule of its own; records show these."""
        return self

    def requires(self) -> frozenset[Need]:
        """Return what must be there with these settings; checked before the method runs."""
        return self.needs

    def check(self, model: Model, request: Request) -> None:
        """Check that the model and the request offer what the method needs.

        Raises:
            UnsupportedError: naming what is missing and the way out.
        """
        name, needs = type(self).__name__, self.requires()
        if "retain" in needs and not (request.retain or request.background):
            raise UnsupportedError(f"{name} needs names to retain. Give --retain NAMES or a file.")
        if "images" in needs and request.evidence is None:
            raise UnsupportedError(f"{name} needs images of the class. Give them with --data, or use Project.")
        if "readout" in needs and (model.readout("image") is None or model.readout("text") is None):
            raise UnsupportedError(f"{name} needs towers that end in a linear layer. Use Project, which needs none.")
        if "gradients" in needs and not _differentiable(model):
            raise UnsupportedError(f"{name} needs gradients, and the image tower gives none. Use Project.")


def _differentiable(model: Model) -> bool:
    """Return whether the image embedding of one grey picture has a derivative by its pixels."""
    space = model.adapter.pixels
    with torch.enable_grad():
        pixels = torch.full((1, len(space.mean), space.height, space.width), 0.5, requires_grad=True)
        embedding = model.images(space.normalise(pixels))
        if not embedding.requires_grad:
            return False
        return torch.autograd.grad(embedding.sum(), pixels, allow_unused=True)[0] is not None
