"""SHA-256 of texts, JSON values and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from qdsft.errors import UserError


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex; raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> UserError:
    """Return the error for a file that cannot be read."""
    return UserError(f"{path}: {error.strerror or error} (looked at {path.absolute()}); correct the path")


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def json_sha256(value: dict[str, Any]) -> str:
    """Return the SHA-256 of a value as JSON with sorted keys, in hex."""
    return text_sha256(json.dumps(value, sort_keys=True))
