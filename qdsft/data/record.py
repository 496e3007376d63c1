"""One row of a data file, or the error of a row that cannot be read, with its position in the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from qdsft.errors import UserError


class Record(NamedTuple):
    """One row and its position."""

    row: dict[str, Any]
    """Column name -> value."""
    source: str
    """`file:line` for error messages. CSV and TSV: `file:row`, where row 1 is the header; Parquet the same, from 1."""


class RowError(UserError):
    """An error in one row, or in the rest of a file if nothing after it can be read."""

    def __init__(self, source: str, kind: str, message: str) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source
        self.kind = kind
        """The kind under which such errors are counted, such as `not JSON`."""
        self.message = " ".join(message.split())


Scanned = Iterator[Record | RowError]


def show(value: Any) -> str:
    """Return a value as short JSON, for error messages."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:  # the reader ran with fewer frames on the stack
        return "something nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."
