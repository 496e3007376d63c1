"""One row of a data file, or the error of a row that cannot be read, with its position in the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from qdsft.errors import UserError, cut


class Record(NamedTuple):
    """One row and its position."""

    row: dict[str, Any]
    """Column name -> value."""
    source: str
    """`file:line` for error messages. CSV and TSV: `file:row`, where row 1 is the header; Parquet the same, from 1."""
    tabular: bool = False
    """True for a row of a table, whose rows all have the same columns."""


class RowError(UserError):
    """An error in one row, or in the rest of a file if nothing after it can be read."""

    def __init__(self, source: str, kind: str, message: str) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source
        self.kind = kind
        """The kind under which such errors are counted, such as `not JSON`."""
        self.message = " ".join(message.split())


Scanned = Iterator[Record | RowError]


def short_json(value: Any) -> str:
    """Return a value as short JSON, for error messages."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:  # the reader ran with fewer frames on the stack
        return "something nested too deeply"
    return cut(text)


def row_json(row: dict[str, Any]) -> str:
    """Return the columns of a row as one line of JSON. Values without a JSON form, such as dates, become text."""
    return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)


def names(row: Iterable[str]) -> str:
    """Return the names of a row's fields, cut, for error messages."""
    return cut(", ".join(cut(name, 40) for name in row), 200) or "no fields"


def checked(row: dict[str, Any], where: str, *, tabular: bool = False) -> Record | RowError:
    """Return a row of a library's reader, or the RowError of a NaN or infinity in it, at any depth.

    JSON has neither, so a run could not keep such a row in its files. The JSON reader refuses them itself.
    """
    for name, value in row.items():
        if (found := _not_finite(value)) is not None:
            message = f"the field {cut(name, 40)!r} is {found}; replace or remove it"
            return RowError(where, "NaN or infinity", message)
    return Record(row, where, tabular)


def _not_finite(value: Any) -> float | None:
    """Return the first NaN or infinity in a value, at any depth."""
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    if isinstance(value, dict):
        inner: Iterable[Any] = (part for item in value.items() for part in item)
    else:
        inner = value if isinstance(value, list | tuple) else ()
    return next((found for one in inner if (found := _not_finite(one)) is not None), None)
