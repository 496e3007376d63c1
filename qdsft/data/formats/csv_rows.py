"""Our own rows under another name, for those who have CSV files: `scan` tells formats apart by the suffix."""

from __future__ import annotations

import re

from qdsft.data.formats.format import Format, Reader
from qdsft.data.readers import scan

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")


def guarded(cell: str) -> str:
    """Return a cell that a spreadsheet shows as text: one that would be a formula gets a leading apostrophe."""
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unguarded(cell: str) -> str:
    """Return the cell that `guarded` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


FORMAT = Format("csv", Reader(scan, file="the same as `jsonl`", steps="unchanged", columns="kept"))
