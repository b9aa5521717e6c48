"""One plain CLIP under two names: weights and settings of transformers' CLIPModel and of open_clip's CLIP."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Final

import torch
from torch import Tensor

from clip_unlearn.errors import UnsupportedError

PLAIN: Final = (
    ("logit_scale", "logit_scale"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"),
    ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"),
    ("vision_model.post_layernorm.weight", "visual.ln_post.weight"),
    ("vision_model.post_layernorm.bias", "visual.ln_post.bias"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.weight", "ln_final.weight"),
    ("text_model.final_layer_norm.bias", "ln_final.bias"),
)
"""Names of the same tensor: transformers, open_clip."""

TURNED: Final = (("visual_projection.weight", "visual.proj"), ("text_projection.weight", "text_projection"))
"""Names of the last layers, [d, D] in transformers and [D, d] in open_clip."""

BLOCKS: Final = (
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
)
IN_BLOCK: Final = (
    ("self_attn.out_proj", "attn.out_proj"),
    ("layer_norm1", "ln_1"),
    ("layer_norm2", "ln_2"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)
_ACTIVATIONS: Final = {"gelu": False, "quick_gelu": True}
_NORM_EPSILON: Final = 1e-5


def to_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a CLIPModel under open_clip's names: inputs of attention joined, last layers turned.

    Raises:
        UnsupportedError: if a weight is missing or has no counterpart.
    """
    take, rest = _taker(weights)
    named = {ours: take(theirs) for theirs, ours in PLAIN}
    named |= {ours: take(theirs).T.contiguous() for theirs, ours in TURNED}
    for theirs, ours in BLOCKS:
        for number in _numbers(weights, theirs):
            for kind in ("weight", "bias"):
                inputs = [take(f"{theirs}{number}.self_attn.{part}_proj.{kind}") for part in "qkv"]
                named[f"{ours}{number}.attn.in_proj_{kind}"] = torch.cat(inputs)
                for old, new in IN_BLOCK:
                    named[f"{ours}{number}.{new}.{kind}"] = take(f"{theirs}{number}.{old}.{kind}")
    _refuse_rest(rest)
    return named


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of an open_clip CLIP under the names of CLIPModel, with its text tower inside or beside.

    Raises:
        UnsupportedError: if a weight is missing or has no counterpart.
    """
    take, rest = _taker({name.removeprefix("text."): weight for name, weight in weights.items()})
    named = {theirs: take(ours) for theirs, ours in PLAIN}
    named |= {theirs: take(ours).T.contiguous() for theirs, ours in TURNED}
    for theirs, ours in BLOCKS:
        for number in _numbers(rest, ours):
            for kind in ("weight", "bias"):
                inputs = take(f"{ours}{number}.attn.in_proj_{kind}").chunk(3)
                for part, tensor in zip("qkv", inputs, strict=True):
                    named[f"{theirs}{number}.self_attn.{part}_proj.{kind}"] = tensor.clone()
                for new, old in IN_BLOCK:
                    named[f"{theirs}{number}.{new}.{kind}"] = take(f"{ours}{number}.{old}.{kind}")
    _refuse_rest(rest)
    return named


def open_clip_settings(config: Any, *, pad: int) -> dict[str, Any]:
    """Return open_clip's `model_cfg` of a CLIPConfig, with its tokenizer in the folder.

    Raises:
        UnsupportedError: if open_clip has no such activation, normalisation or end of sentence.
    """
    vision, text = config.vision_config, config.text_config
    if vision.hidden_act != text.hidden_act or vision.hidden_act not in _ACTIVATIONS:
        raise UnsupportedError(f"open_clip has no tower with the activation '{vision.hidden_act}'. {_STAY}")
    if {vision.layer_norm_eps, text.layer_norm_eps} != {_NORM_EPSILON}:
        raise UnsupportedError(f"open_clip has no layer norm with epsilon {vision.layer_norm_eps}. {_STAY}")
    # Older configurations say 2, which transformers reads as "the largest token of the sentence".
    largest = text.eos_token_id in (2, text.vocab_size - 1)
    return {
        "embed_dim": config.projection_dim,
        "quick_gelu": _ACTIVATIONS[vision.hidden_act],
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "hf_tokenizer_name": "local",
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
            "pad_id": pad,
            **({} if largest else {"pool_type": "eos", "eos_id": text.eos_token_id}),
        },
    }


def transformers_settings(settings: Mapping[str, Any], kinds: tuple[type, type], *, end: int) -> dict[str, Any]:
    """Return the arguments of a CLIPConfig for open_clip's `model_cfg`; `kinds` are its two classes of settings.

    Raises:
        UnsupportedError: naming the setting that a plain CLIP does not have.
    """
    vision = _plain(kinds[0], settings["vision_cfg"], _VISION)
    text = _plain(kinds[1], settings["text_cfg"], _TEXT)
    activation = "quick_gelu" if settings.get("quick_gelu") else "gelu"
    common = {"hidden_act": activation, "projection_dim": settings["embed_dim"], "layer_norm_eps": _NORM_EPSILON}
    return {
        "projection_dim": settings["embed_dim"],
        "vision_config": {
            **common,
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.width,
            "intermediate_size": int(vision.width * vision.mlp_ratio),
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.width // vision.head_width,
        },
        "text_config": {
            **common,
            "max_position_embeddings": text.context_length,
            "vocab_size": text.vocab_size,
            "hidden_size": text.width,
            "intermediate_size": int(text.width * text.mlp_ratio),
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "pad_token_id": text.pad_id,
            "eos_token_id": text.eos_id if text.pool_type == "eos" else end,
            "bos_token_id": end - 1,
        },
    }


_STAY: Final = "Export it in its own form instead."
_VISION: Final = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio", "patch_dropout"}
_TEXT: Final = {
    *("context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "width", "heads", "layers", "mlp_ratio"),
    *("pad_id", "eos_id", "pool_type"),
}


def _plain(kind: Any, values: Mapping[str, Any], known: set[str]) -> Any:
    """Return the settings of a tower in which nothing but the known ones differs from the defaults of the library."""
    made = kind(**values)
    for field in fields(kind):
        default = field.default if field.default is not MISSING else None
        if field.name not in known and getattr(made, field.name) not in (default, None):
            raise UnsupportedError(f"transformers has no CLIPModel with the setting '{field.name}'. {_STAY}")
    if not isinstance(made.layers, int):
        raise UnsupportedError(f"transformers has no CLIPModel with a convolutional tower. {_STAY}")
    return made


def _taker(weights: Mapping[str, Tensor]) -> tuple[Callable[[str], Tensor], dict[str, Tensor]]:
    """Return a function that takes weights by name, and what nobody has taken yet."""
    rest = {name: weight.detach() for name, weight in weights.items()}

    def take(name: str) -> Tensor:
        if name not in rest:
            raise UnsupportedError(f"The model has no weight '{name}', so it is no plain CLIP. {_STAY}")
        return rest.pop(name)

    return take, rest


def _numbers(names: Iterable[str], prefix: str) -> list[int]:
    found = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in names)
    return sorted({int(match[1]) for match in found if match})


def _refuse_rest(rest: Mapping[str, Tensor]) -> None:
    if rest:
        raise UnsupportedError(f"'{min(rest)}' has no place in the other library. {_STAY}")
