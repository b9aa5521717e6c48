"""A plain CLIP from transformers to open_clip and back, as a checkpoint of the other library."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import atomic, tensors
from clip_unlearn.maths.vectors import unit
from clip_unlearn.models import clip_layout, openclip

TOLERANCE: Final = 1e-4
"""Largest difference between coordinates of unit embeddings that rounding explains."""

PIXEL_TOLERANCE: Final = 0.15
"""Largest difference between prepared pixels: both libraries resize, with rounding of their own."""

_VOCABULARY: Final = ("tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json", "added_tokens.json")
_INTERPOLATIONS: Final = {0: "nearest", 2: "bilinear", 3: "bicubic"}
_START, _END = "<|startoftext|>", "<|endoftext|>"


@torch.no_grad()
def write_open_clip(model: Model, folder: Path, sentences: Sequence[str]) -> Model:
    """Write a CLIPModel of transformers as an open_clip checkpoint and return what stands there.

    Written, opened again and compared: embeddings of noise and of `sentences`, pixels of a picture, the logit scale.

    Raises:
        UnsupportedError: if the architecture, the tokenizer or the preprocessing has no counterpart there.
    """
    module: Any = model.module
    if type(module).__name__ != "CLIPModel":
        raise UnsupportedError(f"open_clip has no {type(module).__name__}. Export it with --to hf.")
    with tempfile.TemporaryDirectory() as own:
        model.adapter.save(module, Path(own))
        pixels = _open_clip_pixels(_json(Path(own) / "preprocessor_config.json"))
        for pattern in _VOCABULARY:
            for file in Path(own).glob(pattern):
                shutil.copyfile(file, folder / file.name)
    pad = module.config.text_config.pad_token_id
    settings = clip_layout.open_clip_settings(module.config, pad=0 if pad is None else pad)
    weights = clip_layout.to_open_clip(dict(module.state_dict()))
    tensors.write(folder / openclip.WEIGHTS, weights, metadata={"format": "pt"})
    atomic.write_json(folder / openclip.CONFIG, {"model_cfg": settings, "preprocess_cfg": pixels})
    return _same(model, openclip.open_folder(folder, Source(where="open_clip")), sentences)


@torch.no_grad()
def write_transformers(model: Model, folder: Path, sentences: Sequence[str]) -> Model:
    """Write an open_clip CLIP as a checkpoint of transformers' CLIPModel and return what stands there.

    Written, opened again and compared: embeddings of noise and of `sentences`, pixels of a picture, the logit scale.

    Raises:
        UnsupportedError: if the architecture, the tokenizer or the preprocessing has no counterpart there.
    """
    import transformers

    from clip_unlearn.models import hf_clip

    with tempfile.TemporaryDirectory() as own:
        model.adapter.save(model.module, Path(own))
        settings = _json(Path(own) / openclip.CONFIG)
        tokenizer = _tokenizer(Path(own), settings["model_cfg"])
    library = openclip.library()
    kinds = (library.CLIPVisionCfg, library.CLIPTextCfg)
    end = tokenizer.eos_token_id
    arguments = clip_layout.transformers_settings(settings["model_cfg"], kinds, end=end)
    module = transformers.CLIPModel(transformers.CLIPConfig(**arguments))
    module.load_state_dict(clip_layout.to_transformers(dict(model.module.state_dict())), strict=True)
    processor = transformers.CLIPImageProcessor(**_transformers_pixels(model, settings["preprocess_cfg"]))
    made = hf_clip.wrap(module, tokenizer, processor, source=Source(where="transformers"))
    made.adapter.save(module, folder)
    return _same(model, hf_clip.open_folder(folder, Source(where="transformers")), sentences)


def _same(before: Model, after: Model, sentences: Sequence[str]) -> Model:
    """Return the model after it was found to act as the one before."""
    space = before.adapter.pixels
    noise = torch.randn(2, 3, space.height, space.width, generator=torch.Generator().manual_seed(0))
    pairs: list[tuple[str, Tensor, Tensor, float]] = [
        ("embeddings of pictures", unit(before.images(noise)), unit(after.images(noise)), TOLERANCE),
        ("embeddings of sentences", unit(before.texts(sentences)), unit(after.texts(sentences)), TOLERANCE),
        ("pixels", before.adapter.prepare([_picture()]), after.adapter.prepare([_picture()]), PIXEL_TOLERANCE),
        ("logit scales", torch.tensor(before.logit_scale), torch.tensor(after.logit_scale), TOLERANCE),
    ]
    for what, ours, theirs, tolerance in pairs:
        far = float((ours - theirs.to(ours)).abs().max()) if ours.shape == theirs.shape else float("inf")
        if not far <= tolerance:
            raise UnsupportedError(
                f"The converted model has other {what} (by {far:.2g}), so the other library does not hold this model "
                "as it is. Export it in its own form."
            )
    return after


def _picture() -> Image.Image:
    """Return a smooth picture that is wider than high: resizing, cropping and normalising all show on it."""
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    return Image.merge("RGB", (across, down, across.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).resize((420, 300))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _open_clip_pixels(processor: Mapping[str, Any]) -> dict[str, Any]:
    size, crop = processor.get("size", {}), processor.get("crop_size", {})
    wanted = size.get("shortest_edge")
    cropped = processor.get("do_center_crop") and crop.get("height") == crop.get("width") == wanted
    whole = not processor.get("do_center_crop") and size.get("height") and size.get("height") == size.get("width")
    interpolation = _INTERPOLATIONS.get(processor.get("resample", -1))
    if not processor.get("do_resize") or not (cropped or whole) or interpolation is None:
        raise UnsupportedError("open_clip cannot prepare pictures as this model does. Export it with --to hf.")
    normalises = processor.get("do_normalize")
    return {
        "size": wanted if cropped else size["height"],
        "mean": processor["image_mean"] if normalises else [0.0] * 3,
        "std": processor["image_std"] if normalises else [1.0] * 3,
        "interpolation": interpolation,
        "resize_mode": "shortest" if cropped else "squash",
    }


def _transformers_pixels(model: Model, settings: Mapping[str, Any]) -> dict[str, Any]:
    by_name = {name: number for number, name in _INTERPOLATIONS.items()}
    mode, space = settings.get("resize_mode", "shortest"), model.adapter.pixels
    resample = by_name.get(settings.get("interpolation", "bicubic"))
    if mode not in ("shortest", "squash") or resample is None or space.height != space.width:
        raise UnsupportedError(f"transformers cannot prepare pictures by '{mode}'. Export with --to open_clip.")
    whole = {"height": space.height, "width": space.width}
    return {
        "size": {"shortest_edge": space.height} if mode == "shortest" else whole,
        "crop_size": whole,
        "do_center_crop": mode == "shortest",
        "resample": resample,
        "image_mean": list(space.mean),
        "image_std": list(space.deviation),
    }


def _tokenizer(folder: Path, settings: Mapping[str, Any]) -> Any:
    """Return the tokenizer of an open_clip folder for transformers; its built-in one is written out first."""
    import transformers

    length = settings["text_cfg"].get("context_length", 77)
    if not settings["text_cfg"].get("hf_tokenizer_name"):
        _write_built_in(folder, length)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.model_max_length = length
    return tokenizer


def _write_built_in(folder: Path, length: int) -> None:
    """Write open_clip's own byte-pair vocabulary as the files of transformers' CLIPTokenizer."""
    own = openclip.library().SimpleTokenizer(context_length=length)
    specials = dict(zip((own.sot_token_id, own.eot_token_id), (_START, _END), strict=True))
    atomic.write_json(
        folder / "vocab.json", {specials.get(number, word): number for word, number in own.encoder.items()}
    )
    pairs = sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)
    atomic.write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs)]) + "\n")
    words = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    atomic.write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **words}
    )
