"""A model that sees colours and reads their names, so that every answer can be counted by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from painted import COLOURS, paint
from PIL import Image

from clip_unlearn.core.model import Model

MISTAKES = 2


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Return a folder with ten pictures of each colour, of which two are another colour."""
    names = list(COLOURS)
    shown = {name: [names[(place + 1) % 3]] * MISTAKES + [name] * 8 for place, name in enumerate(names)}
    return paint(tmp_path / "photos", shown)


@pytest.fixture
def painter(tiny_clip: Any) -> Model:
    """Return a model that embeds a picture as its mean colour and a sentence as the colour it names."""
    model: Model = tiny_clip.model
    axes = {"red": 0, "crimson": 0, "green": 1, "blue": 2}

    def prepare(pictures: Sequence[Image.Image]) -> torch.Tensor:
        pixels = [
            torch.tensor(list(picture.convert("RGB").tobytes())).float().view(64, 3).mean(0) for picture in pictures
        ]
        return torch.stack(pixels)

    def tokenize(sentences: Sequence[str]) -> dict[str, torch.Tensor]:
        rows = [
            next((axes[word.strip(".")] for word in text.split() if word.strip(".") in axes), 3) for text in sentences
        ]
        return {"input_ids": torch.tensor(rows)}

    adapter = replace(
        model.adapter,
        image=replace(model.adapter.image, embed=lambda _, pixels: pixels, features=None),
        text=replace(model.adapter.text, embed=lambda _, tokens: torch.eye(4)[tokens["input_ids"], :3]),
        tokenize=tokenize,
        prepare=prepare,
        preparation="mean colour",
    )
    return replace(model, adapter=adapter)
