"""Pictures and models small enough to be made inside a test."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from clip_unlearn.core.model import Adapter, Model, PixelSpace, Tower
from clip_unlearn.core.record import Source

Encode = Callable[..., bytes]


@pytest.fixture
def encode() -> Encode:
    """Return a maker of encoded pictures: one colour noise field per seed."""

    def make(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (8, 6), **settings: object) -> bytes:
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, kind, **settings)
        return file.getvalue()

    return make


@pytest.fixture
def class_folder(tmp_path: Path, encode: Encode) -> Path:
    """Return a folder of two classes with eight images each."""
    for label, name in enumerate(("fire_truck", "mug")):
        for index in range(8):
            path = tmp_path / "photos" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(100 * label + index))
    return tmp_path / "photos"


class Counter:
    """Counts the images an encoder embeds and the batches they come in."""

    def __init__(self) -> None:
        self.images = 0
        self.sizes: list[int] = []


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(12.0).reshape(4, 3) / 10 - 0.5, requires_grad=False)
        self.logit_scale = nn.Parameter(torch.tensor(3.0), requires_grad=False)


@pytest.fixture
def counted() -> tuple[Model, Counter]:
    """Return a model that embeds the mean colour of a picture, and the counter of its work."""
    counter = Counter()

    def embed(module: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():  # With gradients a blank picture tells which weights count.
            counter.images += len(pixels)
            counter.sizes.append(len(pixels))
        return pixels.mean(dim=(2, 3)) @ module.weight.T

    def prepare(pictures: list[Image.Image]) -> torch.Tensor:
        shown = [np.asarray(picture.resize((4, 4)), dtype=np.float32) / 255 for picture in pictures]
        if any(picture.width == 1 for picture in pictures):
            raise ValueError("mean must have 1 element")
        return torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2)

    text = Tower(embed=lambda module, _: torch.zeros(1, 4) * module.weight.sum())
    adapter = Adapter(
        family="toy", image=Tower(embed=embed), text=text, tokenize=lambda _: {}, prepare=prepare, preparation="4x4",
        pixels=PixelSpace(height=4, width=4, mean=(0.0,) * 3, deviation=(1.0,) * 3),
        save=lambda _module, _folder: None,
    )  # fmt: skip
    return Model(module=Linear(), adapter=adapter, source=Source(where="toy")), counter


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test an empty cache of its own."""
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "embeddings"


@pytest.fixture
def with_weight() -> Callable[[Model, float], Model]:
    """Return a changer of the toy model's weight."""
    return lambda model, factor: replace(model.replace({"weight": model.weights["weight"] * factor}))
