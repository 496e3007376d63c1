"""JSON Lines that a killed process goes on with: the first line says what the others depend on."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

Identity = dict[str, Any]
"""What must be the same for lines to be used again, as JSON."""
Kept = TypeVar("Kept")


def to_line(value: dict[str, Any]) -> bytes:
    """A value as one line, its line end included."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8")


def read_kept(
    content: bytes, identity: Identity, convert: Callable[[dict[str, Any]], Kept]
) -> tuple[list[Kept], int] | None:
    """(what is kept behind the first line, length in bytes of what is whole); None if it is not of `identity`.

    A process that is killed leaves a torn last line: it is not used, nor is anything behind a line that is damaged
    or that `convert` refuses (TypeError, KeyError, AttributeError).
    """
    first, *rest = content.splitlines(keepends=True) or [b""]
    if _value(first) != identity:
        return None
    found, size = [], len(first)
    for line in rest:
        try:
            found.append(convert(_value(line)))
        except (TypeError, KeyError, AttributeError):
            break
        size += len(line)
    return found, size


def _value(line: bytes) -> Any:
    """What a whole line holds; None for any other."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
