"""The forgetting stage of `lip_paper` and its literal forms, on the same pictures, for `lip.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from unittest.mock import patch

import literal_lip
import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.methods._lipschitz import lipschitz_loss
from clip_unlearn.methods._published_loop import SELECTED, Adam, Loop, State
from clip_unlearn.methods._tensors import tower_tensors
from clip_unlearn.methods.lip_paper import LipPaper

METHOD = LipPaper(pictures=8, stop_pictures=4, draws=5, epochs=2, stop_accuracy=0)

Work: TypeAlias = Callable[[], float]
"""Something to time; it returns how many units of work it did."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Forgetting:
    """What is forgotten, among which names, by which pictures."""

    model: Model
    request: Request
    names: tuple[str, ...]
    rows: Tensor
    pixels: Tensor

    def ours(self) -> float:
        """Return the epochs of the loop of `lip_paper`."""
        ready, space = self.model.adapter.pixels.normalise(self.pixels), METHOD.pictures
        loop = Loop(
            model=self.model,
            train=(ready[:space],),
            stop=(ready[space:],),
            said=(METHOD.sentence.replace("{}", self.names[0]),),
            candidates=self.request.sentences(self.names),
            templates=len(self.request.templates),
            towers=tower_tensors(self.model, convolutions=True),
            selected=SELECTED[METHOD.schedule],
            draws=METHOD.draws,
            adam=Adam(learning_rate=METHOD.learning_rate, weight_decay=METHOD.weight_decay, decoupled=False),
            rows=self.rows,
        )
        state = State(random=torch.Generator().manual_seed(0).get_state())
        while state.epoch < METHOD.epochs and state.best > METHOD.stop_accuracy:
            state = loop.after(state)
        return state.epoch

    def literal(self) -> float:
        """Return the epochs of the literal loop."""
        generator = torch.Generator().manual_seed(0)
        return len(literal_lip.forgotten(self.model, METHOD, self.request, [list(self.pixels)], generator)[1])

    def batched(self) -> float:
        """Return the epochs of the literal loop that runs pictures in batches, the perturbed ones without a graph."""
        with patch.object(literal_lip, "backward", _backward_in_batches):
            return self.literal()


def _backward_in_batches(
    model: Model,
    method: LipPaper,
    request: Request,
    train: Sequence[Sequence[Tensor]],
    noise: Callable[[Tensor], Tensor],
) -> None:
    """Do what `literal_lip.backward` does with all pictures at once, perturbed ones without a graph."""
    for name, pictures in zip(request.forget_names, train, strict=True):
        clean = model.adapter.pixels.normalise(torch.stack(list(pictures)))
        embeddings, distances = list[Tensor](), list[Tensor]()
        with torch.no_grad():
            for _ in range(method.draws):
                noisy = (clean + noise(clean)).clamp(clean.amin(), clean.amax())
                embeddings.append(model.images(noisy))
                distances.append((clean - noisy).flatten(1).norm(dim=1))
        text = model.texts([method.sentence.replace("{}", name)])[0]
        loss = lipschitz_loss(text, model.images(clean), torch.stack(embeddings), torch.stack(distances))
        loss.backward()  # type: ignore[no-untyped-call]
