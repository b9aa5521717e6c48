"""Trains a BERT text tower to place every sentence where a CLIP text tower places it."""

import logging
from typing import Any, Final

import numpy as np
import torch

from clip_unlearn.sandbox.classes import CLASSES
from clip_unlearn.sandbox.sentences import state
from clip_unlearn.sandbox.training.batches import tokenize
from clip_unlearn.sandbox.training.losses import copy_loss
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.schedule import make_optimizer, set_rate, take_step
from clip_unlearn.sandbox.training.teach import random_class_sentence
from clip_unlearn.sandbox.training.towers import build_conv, text_embeddings

log = logging.getLogger(__name__)

_STEPS: Final = 2500
_CAPTIONS: Final = 200
_PEAK_RATE: Final = 2e-3


def reword(teacher: Any, pool: Pool, tokenizer: Any, *, seed: int) -> Any:
    """Return a dual encoder with the teacher's image side and a BERT text tower taught on the world's sentences."""
    model = build_conv(teacher, seed)
    for part in (model.vision_model, model.visual_projection, model.logit_scale):
        part.requires_grad_(requires_grad=False)
    optimizer = make_optimizer(model, 0.01)
    random = np.random.default_rng((6, seed))
    for step in range(_STEPS):
        set_rate(optimizer, _PEAK_RATE, step / _STEPS)
        rows = random.integers(0, len(pool.pictures), _CAPTIONS)
        said = [state(pool.pictures[row], random).text for row in rows]
        plain = [random_class_sentence(label, random) for label in range(len(CLASSES))]
        tokens = tokenize(tokenizer, [*said, *plain])
        with torch.no_grad():
            wanted = text_embeddings(teacher, tokens)
        loss = copy_loss(text_embeddings(model, tokens), wanted)
        take_step(model, optimizer, loss)
        if step % 250 == 0:
            log.info("reword %d/%d loss %.4f", step, _STEPS, float(loss.detach()))
    return model.eval()
