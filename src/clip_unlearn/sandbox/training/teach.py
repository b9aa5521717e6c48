"""Trains the convolutional dual encoder, both towers, from pictures and sentences."""

import logging
import time
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from clip_unlearn.sandbox.classes import CLASSES
from clip_unlearn.sandbox.sentences import class_sentences, state
from clip_unlearn.sandbox.training.batches import augmented, batches, tokenize, truth
from clip_unlearn.sandbox.training.losses import contrastive_loss, name_loss
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.schedule import make_optimizer, set_rate, take_step
from clip_unlearn.sandbox.training.towers import build_teacher, image_embeddings, normalized_pixels, text_embeddings

log = logging.getLogger(__name__)

LARGEST_LOGIT_SCALE: Final = 4.6052
"""Natural logarithm of 100, the ceiling CLIP uses."""


@final
@dataclass(frozen=True, kw_only=True)
class Course:
    """Settings of one training run."""

    seed: int
    epochs: int
    batch_size: int = 256
    captions_per_batch: int = 128
    peak_rate: float = 3e-3
    weight_decay: float = 0.05


@final
@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a run learns from: pictures, the class numbers among them, and each picture's place in those."""

    pool: Pool
    known: NDArray[np.int64]
    """Class numbers [k] the pool has, ascending."""

    places: NDArray[np.int64]
    """Place [n] of each picture's class in `known`."""


def lesson_of(pool: Pool) -> Lesson:
    """Return the lesson of a pool."""
    known, places = np.unique(pool.labels, return_inverse=True)
    return Lesson(pool=pool, known=known, places=places)


def teach(pool: Pool, tokenizer: Any, course: Course) -> Any:
    """Return a trained VisionTextDualEncoderModel that has seen only the pool's classes, in picture and word."""
    model = build_teacher(course.seed).to(memory_format=torch.channels_last)
    model.logit_scale.data.fill_(float(np.log(10.0)))
    lesson = lesson_of(pool)
    random = np.random.default_rng((3, course.seed))
    optimizer = make_optimizer(model, course.weight_decay)
    steps = course.epochs * (len(pool.labels) // course.batch_size)
    step = 0
    started = time.monotonic()
    for epoch in range(course.epochs):
        total = 0.0
        for rows in batches(pool, course.batch_size, random):
            set_rate(optimizer, course.peak_rate, step / steps)
            loss = picture_loss(model, tokenizer, lesson, rows, course.captions_per_batch, random)
            take_step(model, optimizer, loss)
            model.logit_scale.data.clamp_(max=LARGEST_LOGIT_SCALE)
            total += float(loss.detach())
            step += 1
        scale = float(model.logit_scale.detach().exp())
        mean, seconds = total * course.epochs / steps, time.monotonic() - started
        log.info("teach %d/%d loss %.3f scale %.1f %.0f s", epoch + 1, course.epochs, mean, scale, seconds)
    return model.eval()


def random_class_sentence(label: int, random: np.random.Generator) -> str:
    """Return one plain sentence for the class, by name or synonym."""
    item = CLASSES[label]
    choices = class_sentences(item, str(random.choice(item.names)))
    return choices[0] if random.random() < 0.25 else str(random.choice(choices))


def picture_loss(
    model: Any, tokenizer: Any, lesson: Lesson, rows: NDArray[np.int64], captions: int, random: np.random.Generator
) -> torch.Tensor:
    """Return the loss on some pictures: contrastive with so many captions, and choosing the right name for all."""
    pictures = [lesson.pool.pictures[row] for row in rows]
    said = [state(picture, random) for picture in pictures[:captions]]
    names = [random_class_sentence(int(label), random) for label in lesson.known]
    texts = text_embeddings(model, tokenize(tokenizer, [*(caption.text for caption in said), *names]))
    pixels = normalized_pixels(augmented(lesson.pool.pixels[rows], random))
    images = image_embeddings(model, pixels.contiguous(memory_format=torch.channels_last))
    split = len(said)
    contrast = contrastive_loss(images, texts[:split], truth(said, pictures), model.logit_scale)
    naming = name_loss(images, texts[split:], torch.from_numpy(lesson.places[rows]), model.logit_scale)
    return contrast + naming
