"""Writes trained models as ordinary checkpoint folders that stock libraries open."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as as_safetensors
from tokenizers import Tokenizer

from clip_unlearn.files.atomic import new_folder, write_json
from clip_unlearn.sandbox.canvas import SIDE
from clip_unlearn.sandbox.training.towers import EMBEDDING_WIDTH, PIXEL_DEVIATION, PIXEL_MEAN, TEXT, VISION
from clip_unlearn.sandbox.training.vocabulary import CONTEXT_LENGTH, END, PAD, START


def write_transformers(model: Any, tokenizer: Any, path: Path) -> None:
    """Write a CLIPModel or VisionTextDualEncoderModel in half precision with its tokenizer and preprocessor."""
    with new_folder(path, force=True) as folder:
        model.half().save_pretrained(folder)
        model.float()
        _mend_config(folder / "config.json")
        _write_tokenizer(tokenizer, folder)
        write_json(folder / "preprocessor_config.json", _preprocessor())
        _open_to_all(folder)


def write_open_clip(model: Any, tokenizer: Any, path: Path) -> None:
    """Write a CLIPModel in open_clip's layout, half precision, with its tokenizer."""
    with new_folder(path, force=True) as folder:
        tensors = {name: tensor.half().contiguous() for name, tensor in open_clip_weights(model.state_dict()).items()}
        (folder / "open_clip_model.safetensors").write_bytes(as_safetensors(tensors))
        _write_tokenizer(tokenizer, folder)
        write_json(folder / "open_clip_config.json", _open_clip_config())
        _open_to_all(folder)


def open_clip_weights(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a transformers CLIPModel under open_clip's names, attention inputs joined."""
    result = {
        "logit_scale": weights["logit_scale"],
        "visual.class_embedding": weights["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": weights["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": weights["vision_model.embeddings.patch_embedding.weight"],
        "visual.proj": weights["visual_projection.weight"].T,
        "token_embedding.weight": weights["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": weights["text_model.embeddings.position_embedding.weight"],
        "text_projection": weights["text_projection.weight"].T,
    }
    norms = {
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
        "ln_final": "text_model.final_layer_norm",
    }
    for ours, theirs in norms.items():
        result |= _both(weights, ours, theirs)
    for layer in range(VISION["num_hidden_layers"]):
        result |= _block(weights, f"visual.transformer.resblocks.{layer}", f"vision_model.encoder.layers.{layer}")
    for layer in range(TEXT["num_hidden_layers"]):
        result |= _block(weights, f"transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}")
    return result


def _open_to_all(folder: Path) -> None:
    """Let every user read the files; temporary files begin private."""
    for path in folder.iterdir():
        path.chmod(0o644)


def _both(weights: dict[str, torch.Tensor], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    return {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] for kind in ("weight", "bias")}


def _block(weights: dict[str, torch.Tensor], ours: str, theirs: str) -> dict[str, torch.Tensor]:
    joined = {
        f"{ours}.attn.in_proj_{kind}": torch.cat([weights[f"{theirs}.self_attn.{part}_proj.{kind}"] for part in "qkv"])
        for kind in ("weight", "bias")
    }
    return {
        **joined,
        **_both(weights, f"{ours}.attn.out_proj", f"{theirs}.self_attn.out_proj"),
        **_both(weights, f"{ours}.ln_1", f"{theirs}.layer_norm1"),
        **_both(weights, f"{ours}.ln_2", f"{theirs}.layer_norm2"),
        **_both(weights, f"{ours}.mlp.c_fc", f"{theirs}.mlp.fc1"),
        **_both(weights, f"{ours}.mlp.c_proj", f"{theirs}.mlp.fc2"),
    }


def _mend_config(path: Path) -> None:
    """Ask for float32 at loading, under both the newer and the older key; the file itself holds float16."""
    config = json.loads(path.read_text())
    for part in (config, config.get("text_config", {}), config.get("vision_config", {})):
        part.pop("torch_dtype", None)
        part["dtype"] = "float32"
    write_json(path, config)


def _write_tokenizer(tokenizer: Any, folder: Path) -> None:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # Earlier calls leave their padding and truncation behind.
    backend.no_padding()
    backend.no_truncation()
    (folder / "tokenizer.json").write_text(backend.to_str(pretty=False), encoding="utf-8")
    settings = {
        # The class name both transformers 4 and 5 know.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", settings)


def _preprocessor() -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [PIXEL_MEAN] * 3,
        "image_std": [PIXEL_DEVIATION] * 3,
    }


def _open_clip_config() -> dict[str, Any]:
    vision = {
        "image_size": SIDE,
        "patch_size": VISION["patch_size"],
        "width": VISION["hidden_size"],
        "layers": VISION["num_hidden_layers"],
        "head_width": VISION["hidden_size"] // VISION["num_attention_heads"],
        "mlp_ratio": VISION["intermediate_size"] / VISION["hidden_size"],
    }
    text = {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": TEXT["vocab_size"],
        "hf_tokenizer_name": "local",
        "width": TEXT["hidden_size"],
        "heads": TEXT["num_attention_heads"],
        "layers": TEXT["num_hidden_layers"],
        "mlp_ratio": TEXT["intermediate_size"] / TEXT["hidden_size"],
        "pad_id": TEXT["pad_token_id"],
    }
    preprocess = {
        "mean": [PIXEL_MEAN] * 3,
        "std": [PIXEL_DEVIATION] * 3,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    model = {"embed_dim": EMBEDDING_WIDTH, "vision_cfg": vision, "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": preprocess}
