"""The model card of everything that is handed out: patch folders, adapters, edited checkpoints. Torch-free."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from clip_unlearn.core.disclosure import KINDS, leaks
from clip_unlearn.core.record import Edit, Origin, Reach, Source

CARD_FILE: Final = "README.md"
TAGS: Final = ("unlearning", "clip-unlearn")

_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>#|~&$])")


@final
@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says beyond the recipe."""

    title: str
    """What the folder is, in a few words."""

    origin: Origin | None
    """Who made the edit; None where it is not known."""

    edit: Edit
    """What is handed out: a patch beside the base model, or a checkpoint alone."""

    reach: Reach | None
    """How far the edit goes; None where it is not known."""

    load: str
    """Python that opens the folder, to be run inside it."""

    library: str
    """The library that opens it, by its name on the hub."""

    digest: str = ""
    """Fingerprint of the edited model, where it is known."""

    relation: str = ""
    """How the hub names the relation to the base model: adapter or finetune."""

    notes: tuple[str, ...] = ()
    """What else has to be known to use it."""


def render(card: Card) -> str:
    """Return the card as Markdown with a YAML head, as the hub and people read it."""
    origin = card.origin
    names = ", ".join(_plain(name) for name in origin.request.forget_names) if origin else "not recorded"
    method, base = (origin.method, _plain(shared(origin.base.where))) if origin else ("unknown", "unknown")
    lines = [
        *_head(card),
        f"# {card.title}",
        "",
        f"Forgets: {names}. Method: {method}. Base: {base}.",
        f"Kind: {KINDS[card.edit]}.",
        "",
        *_section("How to load it", ["```python", *card.load.strip().splitlines(), "```"]),
        *(_section("What to know", [f"- {note}" for note in card.notes]) if card.notes else ()),
        *_section("What still leaks", [f"- {line}" for line in leaks(card.reach, card.edit)]),
        "This card names what was forgotten. It is no proof of deletion.",
        "",
        *(_section("Recipe", ["```json", *_recipe(origin, card.digest), "```"]) if origin else ()),
    ]
    return "\n".join(lines).rstrip() + "\n"


def hub_id(base: Source) -> str:
    """Return the hub repository of a model, "" for anything else (folders, embedded models, built-in names)."""
    name = re.sub(r"^(hf:|hf-hub:)", "", base.where).partition("@")[0]
    is_local = _is_path(base.where) or (not base.revision and Path(base.where).exists())
    return "" if is_local or not _HUB_ID.fullmatch(name) else name


def shared(where: str) -> str:
    """Return where something came from as strangers may read it: of a local path the last part only."""
    scheme = "local-dir:" if where.startswith("local-dir:") else ""
    return f"{scheme}{Path(where.removeprefix(scheme)).name}" if _is_path(where) else where


def opened_by(base: Source) -> str:
    """Return what a reader of a card writes to open the base model."""
    return f"path/to/{shared(base.where).removeprefix('local-dir:')}" if _is_path(base.where) else base.where


def _is_path(where: str) -> bool:
    return where.startswith((".", "/", "~", "local-dir:")) or where.count("/") > 1


def _head(card: Card) -> list[str]:
    base = hub_id(card.origin.base) if card.origin else ""
    return [
        "---",
        f"library_name: {card.library}",
        f"tags: [{', '.join(TAGS)}]",
        *([f"base_model: {base}"] if base else []),
        *([f"base_model_relation: {card.relation}"] if base and card.relation else []),
        "---",
        "",
    ]


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _recipe(origin: Origin, digest: str) -> list[str]:
    """Return the request, the method and the base as JSON, one key a line, so that long lists stay short to scroll."""
    request = origin.request.model_dump(mode="json")
    if origin.request.evidence is not None:
        request["evidence"]["where"] = shared(origin.request.evidence.where)
    content = {
        **request,
        "method": origin.method,
        "settings": origin.model_dump(mode="json")["settings"],
        "base": {**origin.base.model_dump(mode="json", exclude={"count"}), "where": shared(origin.base.where)},
        "changed": list(origin.touches),
        "survived_rounding": origin.survived,
        "request_sha256": origin.request.digest,
        **({"edited_sha256": digest} if digest else {}),
        "clip_unlearn": origin.version,
    }
    rows = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()]
    return ["{", *(f"{row}," for row in rows[:-1]), rows[-1], "}"]
