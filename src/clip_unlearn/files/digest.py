"""SHA-256 digests of bytes, files and JSON values."""

import hashlib
import json
from pathlib import Path


def of_bytes(*parts: bytes) -> str:
    """Return the hexadecimal SHA-256 of the parts, each preceded by its length so that borders count."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "big"))
        total.update(part)
    return total.hexdigest()


def of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_json(value: object) -> str:
    """Return the digest of a JSON value in canonical form: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()
