"""The models of the sandbox and how each is made from seeds."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_safetensors
from transformers import AutoTokenizer, CLIPModel, VisionTextDualEncoderModel

from clip_unlearn.files.atomic import write_bytes, write_text
from clip_unlearn.sandbox.training.card import card
from clip_unlearn.sandbox.training.distil import distil
from clip_unlearn.sandbox.training.evaluate import evaluate
from clip_unlearn.sandbox.training.export import write_open_clip, write_transformers
from clip_unlearn.sandbox.training.pool import Pool, build_pool
from clip_unlearn.sandbox.training.reword import reword
from clip_unlearn.sandbox.training.teach import Course, teach
from clip_unlearn.sandbox.training.towers import build_teacher
from clip_unlearn.sandbox.training.vocabulary import learn_tokenizer
from clip_unlearn.sandbox.world import digest

log = logging.getLogger(__name__)

ORACLE_CLASSES: Final = ("mug", "cat", "car")
"""Classes the world has retrained models without."""

ORACLE_SEEDS: Final = (0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes and places of a training run."""

    weights: Path
    cache: Path
    pictures_per_cell: int = 400
    audit_per_cell: int = 40
    teacher_epochs: int = 16
    student_epochs: int = 14
    oracle_epochs: int = 6

    def pool(self, split: str, per_cell: int) -> Pool:
        """Return the cached pictures of a split."""
        return build_pool(split, per_cell, self.cache)

    def teacher_path(self, without: str) -> Path:
        """Return where the teacher that never saw a class is kept; with no class, the teacher of everything."""
        return self.cache / f"{digest()[:16]}-teacher-{without or 'all'}-{self.teacher_epochs}.safetensors"


def train_teacher(plan: Plan, without: str) -> float:
    """Train the convolutional model without the class and keep it in the cache; return the seconds it took."""
    started = time.monotonic()
    if not plan.teacher_path(without).exists():
        pool = plan.pool("train", plan.pictures_per_cell).without(without)
        course = Course(seed=0, epochs=plan.teacher_epochs, batch_size=128, captions_per_batch=64, peak_rate=3e-3)
        model = teach(pool, learn_tokenizer(), course)
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        write_bytes(plan.teacher_path(without), as_safetensors(tensors))
    return time.monotonic() - started


def train_student(plan: Plan, name: str, without: str, seed: int) -> dict[str, Any]:
    """Train one ViT model, write its folder and return its figures, measured on the folder as written."""
    started = time.monotonic()
    pool = plan.pool("train", plan.pictures_per_cell).without(without)
    tokenizer = learn_tokenizer()
    epochs = plan.oracle_epochs if without else plan.student_epochs
    course = Course(seed=seed, epochs=epochs, batch_size=64, captions_per_batch=0, peak_rate=2e-3)
    model = distil(load_teacher(plan, without), pool, tokenizer, course)
    write_transformers(model, tokenizer, plan.weights / name)
    seconds = time.monotonic() - started
    return _measured(CLIPModel, plan, name, without, seconds)


def train_conv(plan: Plan, teacher_seconds: float) -> dict[str, Any]:
    """Give the teacher of everything a BERT text tower, write it as a model of its own and return its figures."""
    started = time.monotonic()
    tokenizer = learn_tokenizer()
    model = reword(load_teacher(plan, ""), plan.pool("train", plan.pictures_per_cell), tokenizer, seed=0)
    write_transformers(model, tokenizer, plan.weights / "sandbox-conv")
    seconds = teacher_seconds + time.monotonic() - started
    return _measured(VisionTextDualEncoderModel, plan, "sandbox-conv", "", seconds)


def convert(plan: Plan) -> None:
    """Write `sandbox` once more in open_clip's layout."""
    model = CLIPModel.from_pretrained(plan.weights / "sandbox", dtype=torch.float32)
    write_open_clip(model, learn_tokenizer(), plan.weights / "sandbox-openclip")
    page = plan.weights / "sandbox-openclip" / "README.md"
    write_text(page, card("sandbox-openclip", "", {}))
    page.chmod(0o644)


def load_teacher(plan: Plan, without: str) -> Any:
    """Return the trained convolutional model from the cache, ready to use."""
    model = build_teacher(0)
    model.load_state_dict(load_file(plan.teacher_path(without)))
    return model.eval()


def _measured(kind: Any, plan: Plan, name: str, without: str, seconds: float) -> dict[str, Any]:
    folder = plan.weights / name
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    figures = evaluate(model, AutoTokenizer.from_pretrained(folder), plan.pool("audit", plan.audit_per_cell), without)
    figures["seconds"] = round(seconds, 1)
    figures["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    write_text(folder / "README.md", card(name, without, figures))
    (folder / "README.md").chmod(0o644)
    log.info("%s %s", name, {domain: share["value"] for domain, share in figures["by_domain"].items()})
    return figures
