"""Read StrategyQA's JSON lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qdsft.data.formats.format import Format, Reader
from qdsft.data.formats.read import get_field, make_row, read_changed
from qdsft.data.record import Record, Scanned


def read(path: Path) -> Scanned:
    """Yield the rows of a JSON list with `question`, `decomposition` and other columns (qid, answer, facts, ...)."""
    return read_changed(path, _row)


def _row(record: Record) -> dict[str, Any]:
    return make_row(record, "question", get_field(record, "decomposition"), record.row, drop="decomposition")


FORMAT = Format(
    "strategyqa",
    Reader(
        read,
        file="[StrategyQA](https://github.com/eladsegal/strategyqa)'s JSON list: `question`, `decomposition`",
        steps="unchanged",
        columns="kept",
    ),
)
