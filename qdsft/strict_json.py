"""Write results as strict JSON: other programs, and qdsft's own reader, refuse the NaN that Python's json writes."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: Any, *, indent: int | None = None, ascii_only: bool = False, sort_keys: bool = False) -> str:
    """Return a value as JSON. A NaN or infinity, such as the loss of a diverged model, becomes null.

    Rows of data never have one: `record.checked` refuses it.
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
