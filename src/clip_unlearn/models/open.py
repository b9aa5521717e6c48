"""One door to every model: names, folders, hub ids, loaded modules."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clip_unlearn.core.model import Model
from clip_unlearn.core.record import Source
from clip_unlearn.errors import UnknownNameError, UnsupportedError, WeightsError, nearest
from clip_unlearn.files import hub
from clip_unlearn.sandbox import bundle

SOURCES = {
    "sandbox": "embedded CLIPModel of transformers with a vision transformer",
    "sandbox-conv": "embedded VisionTextDualEncoderModel with a convolutional image tower",
    "sandbox-openclip": "embedded open_clip model",
    "FOLDER": "checkpoint of transformers (CLIPModel, VisionTextDualEncoderModel) or open_clip, safetensors only",
    "ORG/NAME[@REVISION]": "the same from the Hugging Face hub or its local cache",
    "openclip:ARCHITECTURE,WEIGHTS": "architecture and published weights as open_clip lists them",
    "hf-hub:ORG/NAME": "open_clip repository on the hub",
    "local-dir:FOLDER": "open_clip folder",
}
"""What `open_model` understands."""

_OPENCLIP = ("openclip:", "local-dir:", "hf-hub:")


def open_model(
    where: "str | Path | nn.Module | Model",
    *,
    tokenizer: Any = None,
    processor: Any = None,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
    device: str = "cpu",
) -> Model:
    """Return a Model, in float32 and evaluation mode.

    `where` is one of: an embedded model (`sandbox`, `sandbox-conv`, `sandbox-openclip`); a checkpoint folder of
    transformers or open_clip; a hub id `org/name` or `org/name@revision`; `openclip:ViT-B-32,laion2b_s34b_b79k`;
    `hf-hub:org/name` or `local-dir:/path` for open_clip; a loaded module with its `tokenizer` and image `processor`
    (for open_clip: its evaluation transform); or a Model, which is returned as it is.

    Raises:
        UnknownNameError: if no such model is known, with the nearest name.
        WeightsError: if files are missing, damaged or pickled.
        UnsupportedError: if the family is not supported, or a module comes without tokenizer or processor.
    """
    if isinstance(where, Model):
        return where
    if isinstance(where, nn.Module):
        return _wrap(where, tokenizer, processor)
    model = _open(str(where), revision=revision, token=token, offline=offline)
    if device != "cpu":
        _move(model, device)
    return model


def _move(model: Model, device: str) -> None:
    try:
        model.module.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:  # unknown names and missing accelerators, by torch version
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedError(f"Device '{device}' is not usable here ({reason}). Use cpu.") from error


def _open(where: str, *, revision: str | None, token: str | None, offline: bool) -> Model:
    if where.startswith(_OPENCLIP):
        return _open_openclip(where, revision=revision, token=token, offline=offline)
    bundled = bundle.folder(where)
    if bundled is not None:
        return _open_folder(bundled, Source(where=where))
    name = where.removeprefix("hf:")
    _refuse_misspelt(name)
    from clip_unlearn.models import hf_clip

    found = hub.snapshot(name, patterns=hf_clip.FILES, revision=revision, token=token, offline=offline)
    return _open_folder(found.folder, Source(where=where, revision=found.revision))


def _open_folder(folder: Path, source: Source) -> Model:
    from clip_unlearn.models import hf_clip, openclip

    if (folder / openclip.CONFIG).is_file() and not (folder / "config.json").is_file():
        return openclip.open_folder(folder, source)
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} has no config.json. Give a checkpoint folder of transformers or open_clip.")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise WeightsError(f"{folder / 'config.json'} is not valid JSON. Fetch the checkpoint again.") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in list(hf_clip.ARCHITECTURES):
        known = ", ".join(hf_clip.ARCHITECTURES)
        raise UnsupportedError(
            f"{folder} holds a model of type '{kind}'. Supported types: {known}, and open_clip models."
        )
    return hf_clip.open_folder(folder, source)


def _open_openclip(where: str, *, revision: str | None, token: str | None, offline: bool) -> Model:
    from clip_unlearn.models import openclip

    name = where.removeprefix("openclip:")
    if name.startswith("local-dir:"):
        found = hub.snapshot(f"{Path(name.removeprefix('local-dir:')).expanduser()}/", patterns=openclip.FILES)
        return openclip.open_folder(found.folder, Source(where=where))
    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
        found = hub.snapshot(repository, patterns=openclip.FILES, revision=revision, token=token, offline=offline)
        return openclip.open_folder(found.folder, Source(where=where, revision=found.revision))
    architecture, comma, tag = name.partition(",")
    if not comma:
        raise UnknownNameError(
            f"'{where}' names no weights. Write openclip:ARCHITECTURE,WEIGHTS, as open_clip lists them."
        )
    return openclip.open_published(architecture, tag, where, offline=offline)


def _wrap(module: nn.Module, tokenizer: Any, processor: Any) -> Model:
    if tokenizer is None or processor is None:
        raise UnsupportedError("A loaded module needs its tokenizer and its image processor (or transform). Give both.")
    from clip_unlearn.models import hf_clip, openclip

    source = Source(where=type(module).__name__)
    if hasattr(module, "encode_image"):
        return openclip.wrap(module, tokenizer, processor, source=source)
    if hasattr(module, "get_image_features") and hasattr(module, "visual_projection"):
        return hf_clip.wrap(module, tokenizer, processor, source=source)
    raise UnsupportedError(f"{type(module).__name__} is no CLIP model. Give one of transformers or open_clip.")


def _refuse_misspelt(name: str) -> None:
    """Say "did you mean" for a bare word, which is neither a folder nor a hub id."""
    if "/" not in name and not name.startswith((".", "~")) and not Path(name).exists():
        known = bundle.names()
        raise UnknownNameError(
            f"Unknown model '{name}'.{nearest(name, known)} Give a checkpoint folder, a hub id 'org/name', or one of: "
            f"{', '.join(known)}."
        )
