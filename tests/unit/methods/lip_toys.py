"""A dual encoder of a few numbers, small enough that every derivative can be written out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clip_unlearn.core.model import Adapter, Model, PixelSpace, Tower
from clip_unlearn.core.record import Source

WIDTH = 3
INNER = 4
SIDE = 2
LETTERS = 5


def random(*shape: int, seed: int = 0) -> Tensor:
    """Return normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Weights(nn.Module):
    """Two layers for each tower, and a weight that neither uses."""

    def __init__(self) -> None:
        super().__init__()
        for seed, (name, shape) in enumerate(
            {
                "image_in": (3 * SIDE * SIDE, INNER),
                "image_out": (INNER, WIDTH),
                "text_in": (LETTERS, INNER),
                "text_out": (INNER, WIDTH),
                "idle": (2,),
            }.items()
        ):
            self.register_parameter(name, nn.Parameter(random(*shape, seed=seed), requires_grad=False))
        self.logit_scale = nn.Parameter(torch.tensor(3.0, dtype=torch.float64), requires_grad=False)


class Counter:
    """What the encoders were asked for: pictures and sentences of every call."""

    def __init__(self) -> None:
        self.images: list[int] = []
        self.texts: list[int] = []


def toy(counter: Counter | None = None) -> Model:
    """Return the model; `counter` is told of every call."""
    seen = counter or Counter()

    def images(module: nn.Module, pixels: Tensor) -> Tensor:
        seen.images.append(len(pixels))
        return torch.tanh(pixels.flatten(1) @ module.image_in) @ module.image_out

    def texts(module: nn.Module, tokens: dict[str, Tensor]) -> Tensor:
        seen.texts.append(len(tokens["rows"]))
        return torch.tanh(tokens["rows"] @ module.text_in) @ module.text_out

    def tokenize(sentences: Sequence[str]) -> dict[str, Tensor]:
        rows = [
            [sum(map(ord, sentence)) * (place + 1) % 17 / 8 - 1 for place in range(LETTERS)] for sentence in sentences
        ]
        return {"rows": torch.tensor(rows, dtype=torch.float64)}

    adapter = Adapter(
        family="toy",
        image=Tower(embed=images),
        text=Tower(embed=texts),
        tokenize=tokenize,
        prepare=lambda _: torch.zeros(0),
        preparation="none",
        pixels=PixelSpace(height=SIDE, width=SIDE, mean=(0.0,) * 3, deviation=(1.0,) * 3),
        save=lambda _module, _folder: None,
    )
    return Model(module=Weights(), adapter=adapter, source=Source(where="toy"))


def changed(model: Model, size: float = 0.3) -> Model:
    """Return the model with all weights of both towers moved a little, differently each."""
    names = ("image_in", "image_out", "text_in", "text_out")
    return model.replace(
        {name: model.weights[name] + size * random(*model.weights[name].shape, seed=9) for name in names}
    )
