"""Trains the ViT image tower to agree with a trained convolutional one, on the same text tower.

Dimensions: n pictures, m captions, k classes, d embedding width.
"""

import logging
import time
from typing import Any, Final

import numpy as np
import torch

from clip_unlearn.sandbox.sentences import class_sentences, state
from clip_unlearn.sandbox.classes import CLASSES
from clip_unlearn.sandbox.training.batches import augmented, batches, tokenize, truth
from clip_unlearn.sandbox.training.losses import contrastive_loss, copy_loss, name_loss
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.schedule import make_optimizer, set_rate
from clip_unlearn.sandbox.training.teach import Course
from clip_unlearn.sandbox.training.towers import build_vit, image_embeddings, normalized_pixels, text_embeddings

log = logging.getLogger(__name__)

_COPY_WEIGHT: Final = 8.0


def distil(teacher: Any, pool: Pool, tokenizer: Any, course: Course) -> Any:  # noqa: ANN401
    """Return a trained CLIPModel with a fresh ViT image tower and the teacher's text tower and logit scale."""
    model = build_vit(course.seed)
    model.text_model.load_state_dict(teacher.text_model.state_dict())
    model.text_projection.load_state_dict(teacher.text_projection.state_dict())
    model.logit_scale.data.copy_(teacher.logit_scale.data)
    for part in (model.text_model, model.text_projection):
        part.requires_grad_(requires_grad=False)
    model.logit_scale.requires_grad_(requires_grad=False)
    random = np.random.default_rng((4, course.seed))
    optimizer = make_optimizer(model, course.weight_decay)
    known, places = np.unique(pool.labels, return_inverse=True)
    sentences = _embedded_names(model, tokenizer, known)
    steps = course.epochs * (len(pool.labels) // course.batch_size)
    step = 0
    started = time.monotonic()
    for epoch in range(course.epochs):
        total = 0.0
        for rows in batches(pool, course.batch_size, random):
            set_rate(optimizer, course.peak_rate, step / steps)
            pixels = normalized_pixels(augmented(pool.pixels[rows], random))
            wanted = _wanted(teacher, pixels)
            images = image_embeddings(model, pixels)
            names = sentences[:, int(random.integers(sentences.shape[1]))]
            loss = _COPY_WEIGHT * copy_loss(images, wanted)
            loss = loss + name_loss(images, names, torch.from_numpy(places[rows]), model.logit_scale)
            loss = loss + _caption_loss(model, tokenizer, images, [pool.pictures[row] for row in rows], course, random)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += float(loss.detach())
            step += 1
        log.info("distil %d/%d loss %.3f %.0f s", epoch + 1, course.epochs,
                 total * course.epochs / steps, time.monotonic() - started)  # fmt: skip
    return model.eval()


def _wanted(teacher: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return image_embeddings(teacher, pixels.contiguous(memory_format=torch.channels_last))


def _embedded_names(model: Any, tokenizer: Any, known: Any) -> torch.Tensor:
    """Return the embedded plain sentences [k, sentences, d] of the known classes, by name and by synonym."""
    with torch.no_grad():
        rows = []
        for label in known:
            item = CLASSES[int(label)]
            said = [text for word in item.names for text in class_sentences(item, word)]
            rows.append(text_embeddings(model, tokenize(tokenizer, said)))
    return torch.stack(rows)


def _caption_loss(model: Any, tokenizer: Any, images: torch.Tensor, pictures: list[Any], course: Course,
                  random: np.random.Generator) -> torch.Tensor:
    said = [state(picture, random) for picture in pictures[: course.captions_per_batch]]
    with torch.no_grad():
        texts = text_embeddings(model, tokenize(tokenizer, [caption.text for caption in said]))
    return contrastive_loss(images, texts, truth(said, pictures), model.logit_scale)
