"""Error-minimising and error-maximising noise: forget by training on noise that is learned from the model itself."""

from functools import partial
from typing import ClassVar, final

from pydantic import Field
from torch import Tensor

from clip_unlearn.core.descent import Task, descend, trained_weights
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent, WholeDescent
from clip_unlearn.data.feed import TextTable
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.contrastive import classification
from clip_unlearn.methods._noise import Learning, NoiseFeed, learned


@final
class Emmn(Method):
    """Teach the model to call noise by the name of the class that it resembles least, on noise of every class.

    Noise is learned for every class of the list on the model as it was, in normalised pixels from a normal start: for a
    class to be forgotten it descends -CE + penalty |z|^2, for one to be retained CE, CE = -log p(own class | z) and p
    the zero-shot softmax over the class list. Then L = forget_weight mean_forget -log p(y | z) + retain_weight
    mean_retain -log p(y | z) is descended on batches of these noises, y the class that each was learned for.

    Published for classifiers: Adam with rate 0.1, 25 and 30 steps, 4 noises of each class, then 2 epochs of Adam with
    rate 1e-4 on 80 copies of each. No setting for CLIP is published; a comparison there (arXiv 2410.23330) reports that
    it loses almost all of the other classes. Here an image tower that trains learns the noise by heart and goes on
    knowing photographs, so only the text tower is trained by default: the name leaves its images for the place of the
    noise, and what the image tower knows stays. Needs names alone, those to retain among them, or else names of the
    background; learning noise takes time and memory for every one. No image tells when to stop or whether the class has
    gone: the last state is taken, and others may lose a tenth of their accuracy or more.
    """

    needs: ClassVar = frozenset({"texts", "retain", "gradients"})
    paper: ClassVar = "Chundawat et al., IEEE TIFS 2023, arXiv 2201.05629; towers and training are ours"

    retain_floor: ClassVar = 0.85

    noises: int = Field(default=4, ge=1)
    """Noises of each class."""

    forget_noise_steps: int = Field(default=25, ge=1)
    """Steps of the noise of a class to be forgotten."""

    retain_noise_steps: int = Field(default=30, ge=1)
    """Steps of the noise of a class to be retained."""

    noise_rate: float = Field(default=0.1, gt=0, le=10)
    """Learning rate of the noise, for Adam."""

    penalty: float = Field(default=0.1, ge=0)
    """Weight of the squared length of the noise of a class to be forgotten."""

    forget_weight: float = Field(default=1.0, gt=0)
    """Weight of the loss of noise of classes to be forgotten."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Weight of the loss of noise of classes to be retained."""

    descent: WholeDescent = Descent(steps=60, rate=2e-2, towers="text", forget_batch=4, retain_batch=64)
    """How long, on how many noises and how fast it trains."""

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the weights that training on noise changed.

        Raises:
            UnsupportedError: if the request has no names to retain.
            DivergedError: if the loss is no number, also with half the rate.
        """
        kept = request.retain or request.background
        if not kept:
            raise UnsupportedError("Emmn needs names to retain. Give --retain NAMES or a file.")
        found = descend(self._task(model, request, (*request.forget_names, *kept)), self.descent)
        patch = Patch.between(model, found.model)
        return Patch(deltas=patch.deltas, reason="Training changed no weight." if patch.empty else "")

    def _task(self, model: Model, request: Request, names: tuple[str, ...]) -> Task:
        """Return the task of training on noise, which is learned here."""
        first, settings = len(request.forget), self.descent
        worst = Learning(
            count=self.noises,
            steps=self.forget_noise_steps,
            rate=self.noise_rate,
            maximise=True,
            penalty=self.penalty,
        )
        best = Learning(count=self.noises, steps=self.retain_noise_steps, rate=self.noise_rate, maximise=False)
        feed = NoiseFeed(
            request=request,
            names=names,
            forget=learned(model, request, names, range(first), worst),
            retain=learned(model, request, names, range(first, len(names)), best),
            forget_batch=settings.forget_batch,
            retain_batch=settings.retain_batch,
            texts=TextTable(model=model),
        )
        return Task(
            model=model,
            feed=feed,
            loss=partial(loss_of, self),
            weights=trained_weights(model, settings.towers),
            key=[type(self).__name__, self.model_dump(mode="json"), request.digest],
        )


def loss_of(method: Emmn, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the noises of a step."""
    forget, retain = step.forget, step.retain
    called = classification(forget.images, step.names, forget.labels, step.scale)
    kept = classification(retain.images, step.names, retain.labels, step.scale)
    return method.forget_weight * called + method.retain_weight * kept
