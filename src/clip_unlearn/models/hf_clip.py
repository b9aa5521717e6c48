"""Hugging Face `CLIPModel` and `VisionTextDualEncoderModel`, of transformers 4.57 and 5."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL.Image import Image
from torch import Tensor, nn

from clip_unlearn.core.model import Adapter, Model, PixelSpace, Readout, Tokens, Tower
from clip_unlearn.core.record import Source
from clip_unlearn.errors import WeightsError
from clip_unlearn.files import digest, tensors

ARCHITECTURES: Mapping[str, str] = {"clip": "CLIPModel", "vision-text-dual-encoder": "VisionTextDualEncoderModel"}
"""Model type in config.json -> class of transformers."""

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model")
"""Files of which a tokenizer needs at least one."""

FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


def open_folder(folder: Path, source: Source) -> Model:
    """Return the model in a checkpoint folder, in float32, in evaluation mode, without gradients.

    Raises:
        WeightsError: if files are missing, damaged or pickled, or weights do not fill the model.
    """
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    _check_files(folder)
    try:
        with _quiet():
            module, report = getattr(transformers, ARCHITECTURES[kind]).from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, so that the first is named below
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{folder} cannot be opened by transformers: {reason} Check the folder's files.") from error
    mismatched = (entry if isinstance(entry, str) else entry[0] for entry in report["mismatched_keys"])
    unfilled = [*report["missing_keys"], *mismatched]
    if unfilled:
        raise WeightsError(f"{folder} has no fitting weight for '{sorted(unfilled)[0]}'. Fetch the checkpoint again.")
    return wrap(module, tokenizer, processor, source=source)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's bars and load reports off the terminal: what matters of them becomes an error of ours."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def wrap(module: nn.Module, tokenizer: Any, processor: Any, *, source: Source) -> Model:
    """Return the Model of a loaded module, its tokenizer and its image processor; the module is set to evaluation."""
    module.eval().requires_grad_(requires_grad=False)
    adapter = Adapter(
        family="hf_clip",
        image=Tower(embed=_embed_images, features=_image_features, readout=Readout(weight="visual_projection.weight")),
        text=Tower(embed=_embed_texts, features=_text_features, readout=Readout(weight="text_projection.weight")),
        tokenize=_tokenizer(module, tokenizer),
        prepare=lambda pictures: _prepare(processor, pictures),
        pixels=_pixel_space(processor),
        preparation=digest.of_json([type(processor).__name__, json.loads(processor.to_json_string())]),
        save=lambda edited, folder: _save(edited, tokenizer, processor, folder),
    )
    return Model(module=module, adapter=adapter, source=source)


def _check_files(folder: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise WeightsError(f"{folder} has no {name}. Give a complete checkpoint folder.")
    if not any(True for pattern in VOCABULARIES for _ in folder.glob(pattern)):
        raise WeightsError(f"{folder} has no {' or '.join(VOCABULARIES)}. Give a complete checkpoint folder.")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        for path in sorted(folder.iterdir()):
            tensors.refuse_pickle(path)
        raise WeightsError(f"{folder} has no .safetensors file. Give a complete checkpoint folder.")
    for path in found:
        tensors.check_finite(path)


def _tokenizer(module: Any, tokenizer: Any) -> Callable[[Sequence[str]], Tokens]:
    config = module.config.text_config
    limit = min(int(tokenizer.model_max_length), int(config.max_position_embeddings))
    accepted = {"input_ids", "attention_mask"}
    if getattr(config, "type_vocab_size", 0):
        accepted.add("token_type_ids")

    def tokenize(sentences: Sequence[str]) -> Tokens:
        batch = tokenizer(list(sentences), padding="longest", truncation=True, max_length=limit, return_tensors="pt")
        return {name: value for name, value in batch.items() if name in accepted}

    return tokenize


def _pixel_space(processor: Any) -> PixelSpace:
    size = processor.crop_size if processor.do_center_crop else processor.size
    mean, deviation = (
        (processor.image_mean, processor.image_std) if processor.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    )
    return PixelSpace(height=size["height"], width=size["width"], mean=tuple(mean), deviation=tuple(deviation))


def _prepare(processor: Any, pictures: Sequence[Image]) -> Tensor:
    pixels: Tensor = processor(images=[picture.convert("RGB") for picture in pictures], return_tensors="pt")[
        "pixel_values"
    ]
    return pixels


def _pooled(output: Any) -> Tensor:
    """Return the pooled tensor: the feature calls of transformers 4 give it as it is, those of 5 within an output."""
    pooled: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return pooled


def _embed_images(module: Any, pixels: Tensor) -> Tensor:
    return _pooled(module.get_image_features(pixel_values=pixels))


def _embed_texts(module: Any, tokens: Tokens) -> Tensor:
    return _pooled(module.get_text_features(**tokens))


def _image_features(module: Any, pixels: Tensor) -> Tensor:
    return _pooled(module.vision_model(pixel_values=pixels))


def _text_features(module: Any, tokens: Tokens) -> Tensor:
    return _pooled(module.text_model(**tokens))


def _save(module: Any, tokenizer: Any, processor: Any, folder: Path) -> None:
    with _quiet():
        module.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        processor.save_pretrained(folder)
