"""Sample pictures as data URIs, so that the page needs no other file."""

import base64
from pathlib import Path
from typing import Final

from clip_unlearn.errors import DataError
from clip_unlearn.files.paths import inside

SIZE_LIMIT: Final = 1_000_000
"""Bytes of one picture; a larger one is left out of the page."""

_KINDS: Final = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}


def data_uri(folder: Path, picture: str) -> str:
    """Return the picture below `folder` as a data URI, "" if it is missing, too large or of an unknown kind.

    The kind is told by the first bytes (PNG, JPEG, GIF, WebP), never by the file name. Nothing is decoded.
    """
    try:
        path = inside(folder, picture)
        if not path.is_file() or path.stat().st_size > SIZE_LIMIT:
            return ""
        content = path.read_bytes()
    except (DataError, OSError):
        return ""
    kind = _kind(content)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}" if kind else ""


def _kind(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return next((kind for start, kind in _KINDS.items() if content.startswith(start)), "")
