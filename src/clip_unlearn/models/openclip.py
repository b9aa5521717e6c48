"""open_clip models: local folders, hub repositories, and built-in architectures with published weights."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from clip_unlearn.core.copies import with_tensors
from clip_unlearn.core.model import Adapter, Model, PixelSpace, Readout, Tokens, Tower
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnknownNameError, UnsupportedError, WeightsError, nearest
from clip_unlearn.files import atomic, digest, hub, tensors

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
FILES = (CONFIG, WEIGHTS, "*.json", "*.txt", "*.model")


def library() -> Any:
    """Return the open_clip module.

    Raises:
        UnsupportedError: if it is not installed.
    """
    try:
        import open_clip
    except ImportError as error:
        raise UnsupportedError(
            "open_clip is not installed. Install it with: pip install 'clip-unlearn[openclip]'."
        ) from error
    return open_clip


def open_folder(folder: Path, source: Source) -> Model:
    """Return the model in an open_clip folder (open_clip_config.json, open_clip_model.safetensors).

    Raises:
        WeightsError: if files are missing, damaged or pickled.
    """
    open_clip = library()
    if not (folder / CONFIG).is_file():
        raise WeightsError(f"{folder} has no {CONFIG}. Give a complete open_clip folder.")
    if not (folder / WEIGHTS).is_file():
        for path in sorted(folder.iterdir()):
            tensors.refuse_pickle(path)
        raise WeightsError(f"{folder} has no {WEIGHTS}. Give a complete open_clip folder.")
    tensors.check_finite(folder / WEIGHTS)
    where = f"local-dir:{folder}"
    try:
        module, _, transform = open_clip.create_model_and_transforms(where, precision="fp32", device="cpu")
        tokenizer = open_clip.get_tokenizer(where)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{folder} cannot be opened by open_clip: {reason} Check the folder's files.") from error
    config = json.loads((folder / CONFIG).read_text())["model_cfg"]
    return wrap(module, tokenizer, transform, source=source, config=config)


def open_published(name: str, tag: str, source_name: str, *, offline: bool = False) -> Model:
    """Return a built-in architecture with published weights, for example ("ViT-B-32", "laion2b_s34b_b79k").

    The weights come from the hub as safetensors; activation and preprocessing follow the published entry, because
    the wrong activation loads silently and ruins accuracy.

    Raises:
        UnknownNameError: with the nearest name, if open_clip lists no such pair.
        WeightsError: if the weights are published as pickle only, or cannot be fetched.
    """
    open_clip = library()
    known = {f"{model},{weights}" for model, weights in open_clip.list_pretrained()}
    if f"{name},{tag}" not in known:
        guess = nearest(f"{name},{tag}", known)
        raise UnknownNameError(f"open_clip has no '{name},{tag}'.{guess} See open_clip.list_pretrained() for all.")
    entry = open_clip.get_pretrained_cfg(name, tag)
    repository = str(entry.get("hf_hub", "")).rstrip("/")
    if not repository:
        raise WeightsError(f"'{name},{tag}' is published as pickle only. Choose weights with a hub repository.")
    found = hub.snapshot(repository, patterns=FILES, offline=offline)
    tensors.check_finite(tensors.present(found.folder / WEIGHTS))
    quick = bool(entry.get("quick_gelu", False)) or name.endswith("-quickgelu")
    module, _, transform = open_clip.create_model_and_transforms(
        name,
        pretrained=str(found.folder / WEIGHTS),
        precision="fp32",
        force_quick_gelu=quick,
        image_mean=entry.get("mean"),
        image_std=entry.get("std"),
        image_interpolation=entry.get("interpolation"),
        image_resize_mode=entry.get("resize_mode"),
    )
    source = Source(where=source_name, revision=found.revision)
    config = {**open_clip.get_model_config(name), "quick_gelu": quick}
    return wrap(module, open_clip.get_tokenizer(name), transform, source=source, config=config)


def wrap(module: nn.Module, tokenizer: Any, transform: Any, *, source: Source, config: Any = None) -> Model:
    """Return the Model of a loaded module, its tokenizer and its evaluation transform.

    Without `config`, the architecture's settings, the model can be edited and measured but not saved as a checkpoint.
    """
    module.eval().requires_grad_(requires_grad=False)
    # Features are what a tower gives once its projection is taken off; not every tower lets it be taken off.
    image_features = _image_features if getattr(module.visual, "proj", None) is not None else None
    text_features = _text_features if hasattr(getattr(module, "text", module), "text_projection") else None
    adapter = Adapter(
        family="openclip",
        image=Tower(embed=_embed_images, features=image_features, readout=_image_readout(module)),
        text=Tower(embed=_embed_texts, features=text_features, readout=_text_readout(module)),
        tokenize=_tokenizer(module, tokenizer),
        prepare=lambda pictures: _prepare(transform, pictures),
        pixels=_pixel_space(module),
        preparation=digest.of_json(["open_clip", str(transform)]),
        logit_bias="logit_bias" if getattr(module, "logit_bias", None) is not None else None,
        save=lambda edited, folder: _save(edited, tokenizer, config, folder),
    )
    return Model(module=module, adapter=adapter, source=source)


def _tokenizer(module: Any, tokenizer: Any) -> Callable[[Sequence[str]], Tokens]:
    pad = getattr(getattr(tokenizer, "tokenizer", None), "pad_token_id", None) or 0
    # Padding may be cut where nothing looks at it. Towers of their own (`module.text`) fix the length of their mask.
    causal = getattr(module, "attn_mask", None) is not None
    cut = causal and getattr(module, "text_pool_type", "") in {"argmax", "eos"}

    def tokenize(sentences: Sequence[str]) -> Tokens:
        ids: Tensor = tokenizer(list(sentences))
        if not cut:
            return {"input_ids": ids}
        used = (ids != pad).any(dim=0).nonzero()
        # One padding column stays: where the end token is also the padding token, it is the one that is read.
        return {"input_ids": ids[:, : min(int(used.max()) + 2, ids.shape[1])]}

    return tokenize


def _pixel_space(module: Any) -> PixelSpace:
    settings = module.visual.preprocess_cfg
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    return PixelSpace(height=height, width=width, mean=tuple(settings["mean"]), deviation=tuple(settings["std"]))


def _prepare(transform: Any, pictures: Sequence[Image]) -> Tensor:
    return torch.stack([transform(picture) for picture in pictures])


def _embed_images(module: Any, pixels: Tensor) -> Tensor:
    embeddings: Tensor = module.encode_image(pixels)
    return embeddings


def _image_features(module: Any, pixels: Tensor) -> Tensor:
    headless = with_tensors(module.visual, {})
    headless.proj = None
    features: Tensor = headless(pixels)
    return features


def _embed_texts(module: Any, tokens: Tokens) -> Tensor:
    ids = tokens["input_ids"]
    embeddings: Tensor = module.encode_text(ids) if hasattr(module, "text") else _read_text(module, ids, project=True)
    return embeddings


def _text_features(module: Any, tokens: Tokens) -> Tensor:
    ids = tokens["input_ids"]
    if not hasattr(module, "text"):
        return _read_text(module, ids, project=False)
    headless = with_tensors(module.text, {})
    headless.text_projection = None
    features: Tensor = headless(ids)
    return features


def _read_text(module: Any, ids: Tensor, *, project: bool) -> Tensor:
    """Encode texts of any length up to the context length; attention is causal, so cut padding changes nothing.

    The library's own call adds positions for the whole context and therefore pays for 77 tokens at every text.
    """
    length = ids.shape[1]
    states = module.token_embedding(ids) + module.positional_embedding[:length]
    mask = None if module.attn_mask is None else module.attn_mask[:length, :length]
    states = module.ln_final(module.transformer(states, attn_mask=mask))
    pooled: Tensor = library().transformer.text_global_pool(
        states, ids, module.text_pool_type, eos_token_id=getattr(module, "text_eos_id", None)
    )
    if not project or module.text_projection is None:
        return pooled
    weight = module.text_projection
    projected: Tensor = weight(pooled) if isinstance(weight, nn.Linear) else pooled @ weight
    return projected


def _image_readout(module: Any) -> Readout | None:
    names = dict(module.visual.named_parameters())
    if "proj" in names:
        return Readout(weight="visual.proj", transposed=True)
    for layer in ("attnpool.c_proj", "head.proj"):
        if f"{layer}.weight" in names:
            bias = f"visual.{layer}.bias" if f"{layer}.bias" in names else None
            return Readout(weight=f"visual.{layer}.weight", bias=bias)
    return None


def _text_readout(module: Any) -> Readout | None:
    prefix = "text." if hasattr(module, "text") else ""
    names = dict(module.named_parameters())
    if f"{prefix}text_projection" in names:
        return Readout(weight=f"{prefix}text_projection", transposed=True)
    for layer in ("text_projection", "proj"):
        if f"{prefix}{layer}.weight" in names:
            bias = f"{prefix}{layer}.bias"
            return Readout(weight=f"{prefix}{layer}.weight", bias=bias if bias in names else None)
    return None


def _save(module: Any, tokenizer: Any, config: Any, folder: Path) -> None:
    if config is None:
        raise UnsupportedError(
            "The architecture's settings are not known for a bare module. Open it by name to save it."
        )
    tensors.write(folder / WEIGHTS, dict(module.state_dict()), metadata={"format": "pt"})
    settings = {"model_cfg": config, "preprocess_cfg": dict(module.visual.preprocess_cfg)}
    atomic.write_json(folder / CONFIG, settings)
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
