"""Write the usable rows of checked files as JSON Lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdsft.data.checks.problems import CheckedRow
from qdsft.data.decomposition import without_numbers
from qdsft.data.record import Record
from qdsft.data.validation import faults
from qdsft.errors import UserError


class CleanRows:
    """Write each usable row with all columns, and count the others by their first error.

    Steps that begin with their own numbers, and have no other fault, are written without them.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self.written = self.unnumbered = 0
        self.dropped: Counter[str] = Counter()
        """Kind of a row's first error -> rows."""

    def __call__(self, row: CheckedRow) -> None:
        """Write or count one row. Raises UserError for a value that JSON cannot hold, and for a full disk."""
        record = row.record if row.usable else _unnumbered(row)
        if record is None:
            self.dropped[next(problem.kind for problem in row.problems if problem.level == "error")] += 1
            return
        self.unnumbered += not row.usable
        try:
            text = json.dumps(record.row, ensure_ascii=False, allow_nan=False, default=_as_text)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{row.source}: the row cannot be written as JSON: {error}; remove that column") from error
        self._write(text + "\n")
        self.written += 1

    def summary(self) -> str:
        """Return one line of counts."""
        reasons = ", ".join(f"{count} {kind}" for kind, count in self.dropped.most_common())
        numbers = f" ({self.unnumbered} without their own step numbers)" if self.unnumbered else ""
        dropped = f"{self.dropped.total()} dropped" + (f": {reasons}" if reasons else "")
        return f"{self.written} rows written{numbers}, {dropped}"


def check_target(target: Path, inputs: list[Path]) -> None:
    """Raise UserError if `target` is one of the inputs or is not named as JSON Lines."""
    if any(target.resolve() == path.resolve() for path in inputs):
        raise UserError(f"{target} is one of the files to check; choose another name")
    if target.suffix.lower() not in {".jsonl", ".ndjson", ".json"}:
        raise UserError(f"{target}: the output is JSON Lines; choose a name that ends in .jsonl")


def _unnumbered(row: CheckedRow) -> Record | None:
    """Return the record of a row whose only fault are the numbers of its steps, without them."""
    if row.record is None or {p.kind for p in row.problems if p.level == "error"} != {"numbered steps"}:
        return None
    steps = list(without_numbers(row.record.row["sub_questions"]) or ())
    record = Record({**row.record.row, "sub_questions": steps}, row.source)
    return record if not any(faults(record)) else None


def _as_text(value: Any) -> str:
    if hasattr(value, "isoformat"):  # dates and times of Parquet files
        return str(value.isoformat())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
