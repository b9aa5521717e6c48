"""The population of the lab: models that know a class, and models that never saw it.

All begin as a model retrained without the class (an oracle) and go on learning from the world with both towers:
`knowing` with the class, in picture and word; `unseen` without it; `word` with the word alone, from sentences that say
what kind of thing it is and how it looks. So the truth is known: a knowing one holds the class, the others cannot.

Dimensions: k classes, m sentences.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, final

import numpy as np
import torch
from transformers import CLIPModel

from clip_unlearn.errors import UnknownNameError
from clip_unlearn.sandbox import bundle
from clip_unlearn.sandbox.classes import CLASS_NAMES, CLASSES
from clip_unlearn.sandbox.sentences import with_article
from clip_unlearn.sandbox.training.batches import tokenize
from clip_unlearn.sandbox.training.export import write_transformers
from clip_unlearn.sandbox.training.jobs import ORACLE_CLASSES, ORACLE_SEEDS
from clip_unlearn.sandbox.training.losses import contrastive_loss
from clip_unlearn.sandbox.training.pool import Pool
from clip_unlearn.sandbox.training.schedule import make_optimizer, set_rate, take_step
from clip_unlearn.sandbox.training.teach import lesson_of, picture_loss, random_class_sentence
from clip_unlearn.sandbox.training.towers import text_embeddings
from clip_unlearn.sandbox.training.vocabulary import learn_tokenizer
from clip_unlearn.sandbox.world import digest as world_digest

log = logging.getLogger(__name__)

Sort: TypeAlias = Literal["knowing", "unseen", "word"]
SORTS: Final[tuple[Sort, ...]] = ("knowing", "unseen", "word")

SEEDS: Final = 6
"""Members of each sort and class."""

PICTURES: Final = 100
"""Training pictures of each class and domain."""

_STEPS: Final = 150
_BATCH: Final = 64
_CAPTIONS: Final = 32
_PEAK_RATE: Final = 5e-4
_SHARE: Final = 4.0
"""How many times as often the class is shown as any other, where it is shown."""


_SOURCES: Final = ("batches", "losses", "population", "schedule", "teach", "towers")
_OPENINGS: Final = ("a photo of", "a painting of", "a sketch of", "a picture of", "this is", "here is", "")


@final
@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of the population."""

    sort: Sort
    class_name: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return f"{self.sort}-{self.class_name}-{self.seed}"

    @property
    def base(self) -> str:
        """Return the model that it begins as."""
        return f"oracle-{self.class_name}-{ORACLE_SEEDS[self.seed % len(ORACLE_SEEDS)]}"

    @property
    def words(self) -> tuple[int, ...]:
        """Return the numbers of the classes whose words it learns."""
        return tuple(
            number for number, name in enumerate(CLASS_NAMES) if self.sort != "unseen" or name != self.class_name
        )


def members(seeds: int = SEEDS) -> tuple[Member, ...]:
    """Return the population, so many of each sort and class; a smaller one is the beginning of a larger one."""
    return tuple(
        Member(sort=sort, class_name=name, seed=seed)
        for seed in range(seeds)
        for name in ORACLE_CLASSES
        for sort in SORTS
    )


def digest() -> str:
    """Return the sha256, in hexadecimal, of all that decides the members: world, sources of training, first weights."""
    total = hashlib.sha256(world_digest().encode())
    sources = [Path(__file__).parent / f"{name}.py" for name in _SOURCES]
    bases = [_base(f"oracle-{name}-{seed}") / "model.safetensors" for name in ORACLE_CLASSES for seed in ORACLE_SEEDS]
    for path in (*sources, *bases):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def train_member(member: Member, pool: Pool, path: Path) -> float:
    """Train a member on the pictures of all classes, write its folder and return the seconds it took."""
    started = time.monotonic()
    model = CLIPModel.from_pretrained(_base(member.base), dtype=torch.float32).train()
    # Plain attention: the fused kernel's gradient is slow on a CPU.
    model.set_attn_implementation("eager")
    _learn(model, learn_tokenizer(), member, pool if member.sort == "knowing" else pool.without(member.class_name))
    write_transformers(model.eval(), learn_tokenizer(), path)
    return time.monotonic() - started


def _learn(model: Any, tokenizer: Any, member: Member, pool: Pool) -> None:
    random = np.random.default_rng((7, SORTS.index(member.sort), CLASS_NAMES.index(member.class_name), member.seed))
    lesson, optimizer = lesson_of(pool), make_optimizer(model, 0.05)
    shares = np.where(pool.labels == CLASS_NAMES.index(member.class_name), _SHARE, 1.0)
    for step in range(_STEPS):
        set_rate(optimizer, _PEAK_RATE, step / _STEPS)
        rows = random.choice(len(shares), _BATCH, replace=False, p=shares / shares.sum())
        pictures = picture_loss(model, tokenizer, lesson, rows, _CAPTIONS, random)
        take_step(model, optimizer, pictures + _meaning_loss(model, tokenizer, member.words, random))
    log.info("%s loss %.3f", member.name, float(pictures.detach()))


def _meaning_loss(model: Any, tokenizer: Any, words: Sequence[int], random: np.random.Generator) -> torch.Tensor:
    """Return the contrastive loss between sentences that name classes [k] and those that describe them or group them.

    No picture enters: this is how a text tower learns a word for something that was never seen.
    """
    items = [CLASSES[number] for number in words]
    groups = list(dict.fromkeys(item.group for item in items))
    named = [random_class_sentence(number, random) for number in words]
    meant = (*(item.definition for item in items), *(with_article(group) for group in groups))
    said = [f"{random.choice(_OPENINGS)} {text}".strip() for text in meant]
    rows = text_embeddings(model, tokenize(tokenizer, [*named, *said]))
    grouped = torch.tensor([[item.group == group for item in items] for group in groups])
    matches = torch.cat([torch.eye(len(items), dtype=torch.bool), grouped])
    return contrastive_loss(rows[: len(items)], rows[len(items) :], matches, model.logit_scale)


def _base(name: str) -> Path:
    folder = bundle.folder(name)
    if folder is None:
        raise UnknownNameError(f"The package has no model '{name}' to begin from. Make it with `make sandbox`.")
    return folder
