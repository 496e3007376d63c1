"""Numbers read from files, and numbers in tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LARGEST = 1e290
"""Larger numbers are treated as damage: nothing measured is so large."""


def number_in(values: Mapping[str, Any], key: str) -> float | None:
    """Return the number under a key; None for a missing value, one that is not finite, and anything else."""
    value: Any = values.get(key)
    return value if is_number(value) and abs(value) < LARGEST else None  # NaN is not below LARGEST either


def is_number(value: Any) -> bool:
    """Return whether a value from JSON is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: float | None, places: int = 3) -> str:
    """Return a value for a table: counts in full, all else with so many decimal places."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{places}f}"
