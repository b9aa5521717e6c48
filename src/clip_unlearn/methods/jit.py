"""Just in time: smooth the image encoder around images to be forgotten, and look at nothing else while doing so."""

from functools import partial
from typing import ClassVar, Literal, Self, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Request
from clip_unlearn.core.step import Step
from clip_unlearn.core.training import Descent, WholeDescent
from clip_unlearn.data.pairs import Sentences, pairs_of
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods._training import trained


@final
class Jit(Method):
    """Draw what the model answers on an image to be forgotten to what it answers on noisy copies of the image.

    L = (1/S) sum_s sum_x |f(x) - f(x + sigma e_s)| / |sigma e_s|, e_s standard normal in normalised pixels, S copies of
    every forget image x in a step; f(x + sigma e_s) counts as fixed and gets no gradient. f is the vector of logits of
    the zero-shot classifier over the class list, as the source has it for classifiers, or the unit embedding.

    Published for a vision transformer: sigma 0.8, 25 copies, plain SGD with rate 1.5, one pass over the images and no
    test when to stop. Such a rate fits one model and one size of logits only, so gradients longer than 1 are shortened
    to 1 and the rate is the length of a step; a model of another size still wants a rate of its own. Nothing in the
    loss holds other classes: they fall with the class or soon after, so every step is looked at, passes are not
    counted, and the best state is taken. A CLIP setting is not published; one tower is trained, that of images. Expect
    the others to lose several points on a transformer. On a convolutional tower of the embedded world half of the class
    stays, and faster steps take the others first.
    """

    needs: ClassVar = frozenset({"texts", "images", "gradients"})
    paper: ClassVar = "Foster et al., arXiv 2402.01401; rate, shortened gradients and the choice of state are ours"

    output: Literal["logits", "embedding"] = "logits"
    """What is smoothed: the logits over the class list, or the embedding itself, which no name enters."""

    sigma: float = Field(default=0.8, gt=0, le=100)
    """Standard deviation of the noise, in normalised pixels."""

    draws: int = Field(default=25, ge=1)
    """Noisy copies of every image in a step, the paper's S; they are embedded without a gradient."""

    sentences: Sentences = "auto"
    """How images are told apart that are looked at: by their class, or by one of their captions; auto prefers the
    class. Without classes, images whose captions have a name in them are to be forgotten."""

    other_senses: tuple[str, ...] = ()
    """Phrases in which a name means something else: unlabelled images whose captions have one are retained."""

    descent: WholeDescent = Descent(
        steps=40,
        optimiser="sgd",
        rate=0.05,
        schedule="constant",
        momentum=0.0,
        towers="image",
        check_every=1,
        patience=8,
    )
    """How long, on what and how fast it trains."""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.output == "embedding" and self.descent.towers == "text":
            raise ValueError("the embedding of an image does not depend on the text tower; give descent.towers=image")
        return self

    def forget(self, model: Model, request: Request) -> Patch:
        """Return the changed weights, with readings on images held out; empty where no state was better.

        Raises:
            UnsupportedError: if the request has no images.
            DataError: if they show too little of what is to be forgotten or of anything else.
            DivergedError: if the loss is no number, also with half the rate.
        """
        pairs = pairs_of(model, request, sentences=self.sentences, other_senses=self.other_senses)
        return trained(self, pairs, partial(loss_of, self), self.descent)


def loss_of(method: Jit, step: Step) -> Tensor:
    """Return the loss of the class's docstring on the forget images of a step."""
    pixels, images = step.forget.pixels, step.forget.images
    names = step.names if method.output == "logits" else None
    answers = images if names is None else step.scale * images @ names.T
    total = torch.zeros((), device=images.device)
    for _ in range(method.draws):
        drawn = torch.randn(pixels.shape, generator=step.generator, dtype=pixels.dtype)
        noise = method.sigma * drawn.to(pixels.device)
        with torch.no_grad():
            noisy = unit(step.embedder.draft.images(pixels + noise).to(images))
            wanted = noisy if names is None else step.scale * noisy @ names.T
        total = total + ((answers - wanted).norm(dim=1) / noise.flatten(1).norm(dim=1)).sum()
    return total / method.draws
