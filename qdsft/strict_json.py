"""Write results as strict JSON, and read JSON objects of other programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from qdsft.errors import UserError, reason


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = False, sort_keys: bool = False) -> str:
    """Return a value as JSON. A NaN or infinity, such as the loss of a diverged model, becomes null.

    Other programs refuse the NaN that Python's json writes, and so does qdsft's own reader. Rows of data never have
    one: `record.checked` refuses it.
    """

    def dumps(value: Any) -> str:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only, sort_keys=sort_keys, allow_nan=False)

    try:
        return dumps(value)
    except ValueError:
        return dumps(_finite(value))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises UserError, which ends in `remedy`, for a file that holds none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}; {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {reason(error)}; {remedy}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object; {remedy}")
    return value
