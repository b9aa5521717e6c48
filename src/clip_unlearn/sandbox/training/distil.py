"""Trains the ViT image tower to agree with a trained convolutional one, on the same text tower.

Dimensions: n pictures, k classes, g patches along a side, c channels, d embedding width.
"""

import logging
import time
from typing import Any, Final, final

import numpy as np
import torch
from torch.nn.functional import interpolate, mse_loss, normalize

from clip_unlearn.sandbox.classes import CLASSES
from clip_unlearn.sandbox.sentences import class_sentences
from clip_unlearn.sandbox.training.batches import augmented, batches, tokenize
from clip_unlearn.sandbox.training.losses import copy_loss, name_loss
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.schedule import make_optimizer, set_rate, take_step
from clip_unlearn.sandbox.training.teach import Course, Lesson, lesson_of
from clip_unlearn.sandbox.training.towers import VISION, build_vit, image_embeddings, normalized_pixels, text_embeddings

log = logging.getLogger(__name__)

_COPY_WEIGHT: Final = 8.0
_MAP_WEIGHT: Final = 2.0
_TAPS: Final = ((1, 9, 96), (2, 9, 96), (3, 21, 192), (4, 21, 192))
"""ViT layer, MobileNet layer whose map it should be able to tell, channels of that map."""


@final
class MapReader(torch.nn.Module):
    """Linear read-outs from ViT tokens to the teacher's feature maps; needed only while training."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.readouts = torch.nn.ModuleList([torch.nn.Linear(VISION["hidden_size"], width) for _, _, width in _TAPS])
        self._maps: dict[int, torch.Tensor] = {}
        for number in {layer for _, layer, _ in _TAPS}:
            teacher.vision_model.layer[number].register_forward_hook(self._keeper(number))

    def loss(self, hidden_states: Any) -> torch.Tensor:
        """Return the mean squared error to the standardised maps of the teacher's last pass, averaged over the taps."""
        total = torch.zeros(())
        for (depth, number, _), readout in zip(_TAPS, self.readouts, strict=True):
            tokens = hidden_states[depth][:, 1:]
            total = total + mse_loss(readout(tokens).float(), _standardised(self._maps[number], tokens.shape[1]))
        return total / len(_TAPS)

    def _keeper(self, number: int) -> Any:
        def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
            self._maps[number] = output

        return keep


def distil(teacher: Any, pool: Pool, tokenizer: Any, course: Course) -> Any:
    """Return a trained CLIPModel with a fresh ViT image tower and the teacher's text tower and logit scale."""
    teacher = teacher.eval().to(memory_format=torch.channels_last)
    model = _student(teacher, course.seed)
    reader = MapReader(teacher)
    random = np.random.default_rng((4, course.seed))
    optimizer = make_optimizer(torch.nn.ModuleList([model, reader]), course.weight_decay)
    lesson = lesson_of(pool)
    sentences = _embedded_names(model, tokenizer, lesson)
    steps = course.epochs * (len(pool.labels) // course.batch_size)
    step = 0
    started = time.monotonic()
    for epoch in range(course.epochs):
        total = 0.0
        for rows in batches(pool, course.batch_size, random):
            set_rate(optimizer, course.peak_rate, step / steps)
            names = sentences[:, int(random.integers(sentences.shape[1]))]
            pixels = normalized_pixels(augmented(pool.pixels[rows], random))
            loss = _loss(model, teacher, reader, pixels, names, torch.from_numpy(lesson.places[rows]))
            take_step(model, optimizer, loss)
            total += float(loss.detach())
            step += 1
        mean, seconds = total * course.epochs / steps, time.monotonic() - started
        log.info("distil %d/%d loss %.3f %.0f s", epoch + 1, course.epochs, mean, seconds)
    return model.eval()


def _student(teacher: Any, seed: int) -> Any:
    model = build_vit(seed)
    # Plain attention: the fused kernel's bfloat16 gradient is ten times slower on a CPU.
    model.set_attn_implementation("eager")
    model.text_model.load_state_dict(teacher.text_model.state_dict())
    model.text_projection.load_state_dict(teacher.text_projection.state_dict())
    model.logit_scale.data.copy_(teacher.logit_scale.data)
    for part in (model.text_model, model.text_projection, model.logit_scale):
        part.requires_grad_(requires_grad=False)
    return model


def _loss(
    model: Any, teacher: Any, reader: MapReader, pixels: torch.Tensor, names: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    with torch.no_grad():
        wanted = image_embeddings(teacher, pixels.contiguous(memory_format=torch.channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        output = model.vision_model(pixel_values=pixels, output_hidden_states=True)
        mapping = reader.loss(output.hidden_states)
        embedded = model.visual_projection(output.pooler_output)
    images = normalize(embedded.float(), dim=-1)
    naming = name_loss(images, names, labels, model.logit_scale)
    return _COPY_WEIGHT * copy_loss(images, wanted) + naming + _MAP_WEIGHT * mapping


@torch.no_grad()
def _embedded_names(model: Any, tokenizer: Any, lesson: Lesson) -> torch.Tensor:
    """Return the embedded plain sentences [k, sentences, d] of the known classes, by name and by synonym."""
    rows = []
    for label in lesson.known:
        item = CLASSES[int(label)]
        said = [text for word in item.names for text in class_sentences(item, word)]
        rows.append(text_embeddings(model, tokenize(tokenizer, said)))
    return torch.stack(rows)


def _standardised(feature_map: torch.Tensor, tokens: int) -> torch.Tensor:
    """Return the map [n, c, ., .] as tokens [n, g * g, c] of zero mean and unit deviation per channel."""
    side = round(tokens**0.5)
    if feature_map.shape[-1] != side:
        feature_map = interpolate(feature_map, size=(side, side), mode="bilinear")
    flat = feature_map.flatten(2).transpose(1, 2)
    return (flat - flat.mean(dim=(0, 1))) / (flat.std(dim=(0, 1)) + 1e-3)
