"""One row of a data file, or what is wrong with it, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from qdsft.errors import UserError


class Record(NamedTuple):
    """One row and where it stands."""

    row: dict[str, Any]
    """Column name -> value."""
    source: str
    """`file:line`, for error messages; of CSV and TSV `file:row` with the header as row 1, of Parquet from 1."""


class RowError(UserError):
    """A fault of one row, or, where nothing can be read behind it, of the rest of a file."""

    def __init__(self, source: str, kind: str, message: str) -> None:
        super().__init__(f"{source}: {message}")
        self.source = source
        self.kind = kind
        """What faults of this sort are counted under, such as `not JSON`."""
        self.message = " ".join(message.split())


Scanned = Iterator[Record | RowError]


def show(value: Any) -> str:
    """A value as short JSON, for error messages."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:  # read further out on the stack, where a little more fits
        return "something nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."
