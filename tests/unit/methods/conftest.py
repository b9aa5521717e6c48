"""Models for methods: the embedded one, and one whose embeddings a test chooses; pictures that tests share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clip_unlearn.core.model import Adapter, Model, PixelSpace, Tower
from clip_unlearn.core.record import Source
from clip_unlearn.files import digest
from clip_unlearn.models.open import open_model
from clip_unlearn.synthesis.studio import Shot, Studio

Worded = Callable[[Mapping[str, Sequence[float]]], Model]


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(3.0), requires_grad=False)


@pytest.fixture(scope="session")
def sandbox_model() -> Model:
    """Return the embedded model."""
    return open_model("sandbox")


@pytest.fixture
def worded() -> Worded:
    """Return a maker of models that embed each sentence as it is told, by a table."""

    def make(table: Mapping[str, Sequence[float]]) -> Model:
        def tokenize(sentences: Sequence[str]) -> dict[str, Tensor]:
            return {"rows": torch.tensor([list(table[sentence]) for sentence in sentences], dtype=torch.float32)}

        adapter = Adapter(
            family="worded",
            image=Tower(embed=lambda _, pixels: pixels),
            text=Tower(embed=lambda _, tokens: tokens["rows"]),
            tokenize=tokenize,
            prepare=lambda _: torch.zeros(0),
            preparation="none",
            pixels=PixelSpace(height=1, width=1, mean=(0.0,) * 3, deviation=(1.0,) * 3),
            save=lambda _module, _folder: None,
        )
        return Model(module=Scale(), adapter=adapter, source=Source(where="worded"))

    return make


@pytest.fixture(scope="session")
def album() -> dict[str, Any]:
    """Return pictures that tests share, by all that they depend on."""
    return {}


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, album: dict[str, Any]) -> None:
    """Take pictures that an earlier test made, where all they depend on is the same."""
    make = Studio.pictures

    def pictures(self: Studio, shots: Sequence[Shot]) -> Any:
        key = digest.of_json(self.key(shots))
        if key not in album:
            album[key] = make(self, shots)
        return album[key]

    monkeypatch.setattr(Studio, "pictures", pictures)
