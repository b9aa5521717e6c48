"""Folders and repositories of the Hugging Face hub, through its own cache and conventions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from clip_unlearn.errors import WeightsError


@final
@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A local folder and the revision it was resolved to ("" for a folder that never was on the hub)."""

    folder: Path
    revision: str = ""


def snapshot(
    where: str,
    *,
    patterns: Sequence[str],
    what: str = "Model",
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> Snapshot:
    """Return a local folder for `where`: a folder as it is, else a hub repository "org/name" or "org/name@revision".

    Honours HF_HOME, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE; `offline` looks into the cache only.

    Raises:
        WeightsError: if it is neither a folder nor a repository that can be reached, with the way out.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        return Snapshot(folder=folder)
    if folder.exists() or where.startswith((".", "/", "~")) or where.count("/") != 1:
        problem = "is a file" if folder.is_file() else "does not exist"
        raise WeightsError(f"{what} {where} {problem}. Give a folder that exists, or a hub id 'org/name'.")
    name, _, wanted = where.partition("@")
    offline = offline or _told_offline()
    return _fetch(name, revision or wanted or None, patterns, what=what, token=token, offline=offline)


def _told_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _fetch(
    name: str, revision: str | None, patterns: Sequence[str], *, what: str, token: str | None, offline: bool
) -> Snapshot:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        path = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(patterns), token=token, local_files_only=offline
        )
    except LocalEntryNotFoundError as error:
        way = "Drop --offline / HF_HUB_OFFLINE, or give a local folder." if offline else "Check the connection."
        raise WeightsError(f"{what} {name} is not in the local cache. {way}") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{what} {name} cannot be fetched: {reason} Check the id, or give a local folder."
        ) from error
    return Snapshot(folder=Path(path), revision=Path(path).name)
