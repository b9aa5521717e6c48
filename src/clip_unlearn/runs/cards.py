"""The cards of edited checkpoints and adapters: how each is loaded with stock libraries, in tested lines."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from clip_unlearn.core.card import Card
from clip_unlearn.core.embedding_map import reach
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.models.peft_files import Part
from clip_unlearn.runs.bases import COPY, Reference

FLOAT32: Final = "The numbers are float32. Ask for float32 when loading: some loaders choose half precision."
LOCAL_TOKENIZER: Final = (
    "Before this folder goes to a hub, put the repository's name in `text_cfg.hf_tokenizer_name` of the configuration, "
    "if the key is there."
)
SWITCH: Final = (
    "With the adapter the model is the edited one; inside `disable_adapter()` it is exactly the base model. "
    "`merge_and_unload()` makes an ordinary checkpoint of it."
)
THESE_WEIGHTS: Final = "The edit fits these very weights: on a fine-tuned or another base model it does something else."
OWN_BIAS: Final = "The adapter brings a bias. Where the base layer has none, PEFT uses it but cannot merge it."
CUSTOM_TEXT: Final = (
    "Keep `force_custom_text=True`: in a plain CLIP of open_clip PEFT has no place for the change of the text side and "
    "leaves it out without a word."
)
COPIED: Final = (
    f"`{COPY}/` is a copy of the base model. `base_model_name_or_path` names it by the path it was written to, so "
    "correct it after moving the folder, if something looks the base model up there."
)


def transformers_card(model: Model, patch: Patch, kind: str, digest: str) -> Card:
    """Return the card of a base model's edited checkpoint, of that class of transformers and with that fingerprint."""
    load = f"""
import torch
from transformers import AutoImageProcessor, AutoTokenizer, {kind}

folder = "."  # this folder
model = {kind}.from_pretrained(folder, dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder)
"""
    return replace(_checkpoint(model, patch, load, "transformers"), digest=digest, notes=(FLOAT32,))


def open_clip_card(model: Model, patch: Patch, digest: str) -> Card:
    """Return the card of a base model's edited checkpoint of open_clip, with that fingerprint."""
    load = """
import open_clip

where = "local-dir:."  # this folder
model, _, transform = open_clip.create_model_and_transforms(where, precision="fp32")
tokenizer = open_clip.get_tokenizer(where)
model.eval()
"""
    return replace(_checkpoint(model, patch, load, "open_clip"), digest=digest, notes=(FLOAT32, LOCAL_TOKENIZER))


def adapter_card(model: Model, patch: Patch, parts: Sequence[Part], base: Reference, digest: str) -> Card:
    """Return the card of an adapter of a base model; `digest` is the fingerprint of the edited model."""
    custom = any(part.bare and part.name.startswith("text.") for part in parts)
    missed = max(part.missed for part in parts)
    notes = [SWITCH, THESE_WEIGHTS, FLOAT32]
    notes += [OWN_BIAS] if any(part.bias is not None for part in parts) else []
    notes += [CUSTOM_TEXT] if custom else []
    notes += [COPIED] if base.copied else []
    if missed > 0:
        notes.append(f"The change was of full rank and was cut: {100 * missed:.2g} % of it (Frobenius) is not in here.")
    is_open_clip = model.adapter.family == "openclip"
    return Card(
        title="Adapter: a model edit by clip-unlearn, for PEFT",
        origin=patch.origin,
        edit="suppress",
        reach=reach(patch, model),
        load=_open_clip_adapter(base, custom=custom) if is_open_clip else _adapter(base, type(model.module).__name__),
        library="peft",
        digest=digest,
        relation="adapter",
        notes=tuple(notes),
    )


def _adapter(base: Reference, kind: str) -> str:
    return f"""
import torch
from peft import PeftModel
from transformers import {kind}

folder = "."  # this folder
base = {kind}.from_pretrained({base.arguments}, dtype=torch.float32).eval()
model = PeftModel.from_pretrained(base, folder)
"""


def _open_clip_adapter(base: Reference, *, custom: bool) -> str:
    forced = ", force_custom_text=True" if custom else ""
    return f"""
import open_clip
from peft import PeftModel

folder = "."  # this folder
base, _, transform = open_clip.create_model_and_transforms({base.arguments}, precision="fp32"{forced})
base.eval().requires_grad_(False)
model = PeftModel.from_pretrained(base, folder)
"""


def _checkpoint(model: Model, patch: Patch, load: str, library: str) -> Card:
    return Card(
        title="Edited checkpoint by clip-unlearn",
        origin=patch.origin,
        edit="erase",
        reach=reach(patch, model),
        load=load,
        library=library,
        relation="finetune",
    )
