"""The architectures of the sandbox: a ViT dual encoder and a convolutional one, as transformers configs."""

import copy
import math
from typing import Any, Final

import torch
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    MobileNetV1Config,
    MobileNetV1Model,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from clip_unlearn.sandbox.canvas import SIDE
from clip_unlearn.sandbox.training.vocabulary import CONTEXT_LENGTH, VOCABULARY_SIZE

EMBEDDING_WIDTH: Final = 64
PIXEL_MEAN: Final = 0.55
PIXEL_DEVIATION: Final = 0.25
_NORM_MOMENTUM: Final = 0.05

TEXT: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
    "hidden_act": "gelu",
    "bos_token_id": VOCABULARY_SIZE - 3,
    "pad_token_id": VOCABULARY_SIZE - 2,
    "eos_token_id": VOCABULARY_SIZE - 1,
    "projection_dim": EMBEDDING_WIDTH,
}
BERT: Final[dict[str, Any]] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT_LENGTH,
    "pad_token_id": VOCABULARY_SIZE - 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
VISION: Final[dict[str, Any]] = {
    "image_size": SIDE,
    "patch_size": 8,
    "hidden_size": 96,
    "intermediate_size": 288,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "hidden_act": "gelu",
    "projection_dim": EMBEDDING_WIDTH,
}


def build_vit(seed: int) -> Any:
    """Return a fresh CLIPModel; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=EMBEDDING_WIDTH))
        embeddings = model.vision_model.embeddings
        # Stock patch and position embeddings start at deviation 0.02: too faint to learn from in a few epochs.
        torch.nn.init.normal_(embeddings.patch_embedding.weight, std=0.05)
        embeddings.position_embedding.weight.data[1:] = _position_waves(
            SIDE // VISION["patch_size"], VISION["hidden_size"]
        )
    return model


def build_teacher(seed: int) -> Any:
    """Return a fresh dual encoder of a MobileNet and a CLIP text tower; the random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vision = MobileNetV1Model(
            MobileNetV1Config(image_size=SIDE, depth_multiplier=0.375, min_depth=8, hidden_size=384)
        )
        return _joined(vision, CLIPTextModel(CLIPConfig(text_config=TEXT).text_config))


def build_conv(teacher: Any, seed: int) -> Any:
    """Return the teacher's image side beside a fresh BERT text tower, which every transformers version can join."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _joined(copy.deepcopy(teacher.vision_model), BertModel(BertConfig(**BERT)))
    model.visual_projection.load_state_dict(teacher.visual_projection.state_dict())
    model.logit_scale.data.copy_(teacher.logit_scale.data)
    return model


def _joined(vision: Any, text: Any) -> Any:
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision.config, text.config, projection_dim=EMBEDDING_WIDTH
    )
    model = VisionTextDualEncoderModel(config, vision, text)
    for parameter in (model.visual_projection.weight, model.text_projection.weight):
        torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # transformers builds these with momentum 0.9997, which keeps only the last batch's moments.
            module.momentum = _NORM_MOMENTUM
    return model


def _position_waves(grid: int, width: int) -> torch.Tensor:
    """Return sines and cosines [grid * grid, width] of row and column at geometrically spaced frequencies."""
    frequencies = math.pi / (2 * grid) * torch.exp(torch.linspace(0, math.log(2 * grid), width // 4))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    down, right = rows.reshape(-1, 1) * frequencies, columns.reshape(-1, 1) * frequencies
    return torch.cat([down.sin(), down.cos(), right.sin(), right.cos()], dim=1)


def normalized_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Return model inputs from RGB bytes [n, 3, p, p]."""
    return (pixels.float() / 255 - PIXEL_MEAN) / PIXEL_DEVIATION


def image_embeddings(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return unit image embeddings [n, d] of normalized pixels, for either architecture."""
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return torch.nn.functional.normalize(model.visual_projection(pooled), dim=-1)


def text_embeddings(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return unit text embeddings [n, d] of padded token ids [n, length], for either architecture."""
    seen = (tokens != TEXT["pad_token_id"]).long()
    pooled = model.text_model(input_ids=tokens, attention_mask=seen).pooler_output
    return torch.nn.functional.normalize(model.text_projection(pooled), dim=-1)
