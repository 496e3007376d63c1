"""Read MuSiQue's JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qdsft.data.formats.format import Format, Reader
from qdsft.data.formats.read import get_field, make_row, read_changed
from qdsft.data.record import Record, RowError, Scanned, short_json


def read(path: Path) -> Scanned:
    """Yield the rows of JSON Lines with `question` and `question_decomposition`, a list of {question, answer, ...}.

    A step keeps its text, also if it is a relation ("#1 >> capital"). The new column `step_answers` holds the answers
    of the steps, None for a step without an answer. All other columns are kept, `question_decomposition` too.
    """
    return read_changed(path, _row)


def _row(record: Record) -> dict[str, Any]:
    listed = get_field(record, "question_decomposition")
    if not isinstance(listed, list) or not all(isinstance(step, dict) and "question" in step for step in listed):
        message = f"question_decomposition must be a list of objects with a question, not {short_json(listed)}"
        raise RowError(record.source, "not a decomposition", message)
    others = {**record.row, "step_answers": [step.get("answer") for step in listed]}
    return make_row(record, "question", [step["question"] for step in listed], others)


FORMAT = Format(
    "musique",
    Reader(
        read,
        file="[MuSiQue](https://github.com/StonyBrookNLP/musique)'s JSON Lines: `question`, `question_decomposition`",
        steps="unchanged, relations such as `#1 >> capital` too",
        columns="kept, and `step_answers`",
    ),
)
