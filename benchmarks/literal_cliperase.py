"""CLIPErase written out with a stock library: both models run on every batch, texts padded to full length, float32."""

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax, normalize
from transformers import AutoModel, AutoTokenizer

RETAIN, FORGET, CONSISTENCY = 1.0, 3.0, 3.0

CLIP_LENGTH = 77
"""What published loops pad to; less where a model has fewer positions."""


class LiteralLoop:
    """A model, its frozen copy, and the optimiser of the paper."""

    def __init__(self, folder: Path, rate: float, trained: Collection[str] = ()) -> None:
        """Open the checkpoint twice, once to train and once to compare with; without names all weights are trained."""
        self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.frozen: Any = copy.deepcopy(self.model)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.length = min(CLIP_LENGTH, getattr(self.tokenizer, "model_max_length", CLIP_LENGTH), _positions(self.model))
        self.scale = float(self.model.logit_scale.detach().exp())
        for name, weight in self.model.named_parameters():
            weight.requires_grad_(not trained or name in trained)
        self.optimiser = torch.optim.Adam([one for one in self.model.parameters() if one.requires_grad], lr=rate)

    def step(self, forget: tuple[Tensor, Sequence[str]], retain: tuple[Tensor, Sequence[str]]) -> float:
        """Take one step on pixels and sentences of both sides, and return the loss before it."""
        self.optimiser.zero_grad()
        gone_images, gone_texts = self._embedded(self.model, *forget)
        images, texts = self._embedded(self.model, *retain)
        with torch.no_grad():
            self._embedded(self.frozen, *forget)
            old_images, old_texts = self._embedded(self.frozen, *retain)
        logits, old = self.scale * images @ texts.T, self.scale * old_images @ old_texts.T
        own = torch.arange(len(images))
        kept = (nn.functional.cross_entropy(logits, own) + nn.functional.cross_entropy(logits.T, own)) / 2
        moved = _divergence(logits, old) + _divergence(logits.T, old.T)
        loss = RETAIN * kept + FORGET * (gone_images * gone_texts).sum(1).mean() + CONSISTENCY * moved
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def _embedded(self, model: Any, pixels: Tensor, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        options: Mapping[str, Any] = {"padding": "max_length", "max_length": self.length, "truncation": True}
        tokens = self.tokenizer(list(sentences), return_tensors="pt", **options)
        found = (model.get_image_features(pixel_values=pixels), model.get_text_features(**tokens))
        images, texts = (getattr(one, "pooler_output", one) for one in found)
        return normalize(images, dim=1), normalize(texts, dim=1)


def _positions(model: Any) -> int:  # noqa: ANN401
    return int(getattr(model.config, "text_config", model.config).max_position_embeddings)


def _divergence(now: Tensor, before: Tensor) -> Tensor:
    return kl_div(log_softmax(now, 1), log_softmax(before, 1), reduction="batchmean", log_target=True)
