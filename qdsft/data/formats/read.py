"""Readers of other projects' files: each yields rows with `question` and `sub_questions`, and every other column.

What cannot be read as such a row is yielded as a `RowError` in its place. Whether a row is usable (empty
steps, dangling references) is for `data.faults` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError, show

Reader = Callable[[Path], Iterator[Record | RowError]]

_BROKEN_REFERENCE = re.compile(r"#REF\b")


def break_steps(text: str) -> list[str]:
    """The steps of a BREAK decomposition string, as BREAK's official evaluator parses it; for metrics alone.

    White space is collapsed, the string split at ";", and from every stripped part each occurrence of
    "return" is deleted, inside words too: "return x" gives " x" with its leading space, "returned"
    gives "ed". References stay `#n`; `metrics.string_form` writes them as `@@n@@`.
    """
    return [part.replace("return", "") for part in _qdmr_parts(text)]


def read_break(path: Path) -> Iterator[Record | RowError]:
    """BREAK's CSV: `question_text`, `decomposition` ("return x ;return #1 that y") and other columns, kept as text.

    A step is what follows the one "return " at its start; QDMR's steps are phrases, not questions. Empty
    cells of other columns are left out. A reference that BREAK lost itself (`#REF`) is a RowError.
    """
    return _rows(path, _from_break)


def read_strategyqa(path: Path) -> Iterator[Record | RowError]:
    """StrategyQA's JSON list: `question`, `decomposition` and other columns (qid, answer, facts, ...), kept."""
    return _rows(path, _from_strategyqa)


def read_musique(path: Path) -> Iterator[Record | RowError]:
    """MuSiQue's JSON Lines: `question` and `question_decomposition`, a list of {id, question, answer, ...}.

    A step keeps its text, also where it is a relation ("#1 >> capital"); `step_answers` holds the steps'
    answers, null for one without. All other columns are kept, `question_decomposition` too.
    """
    return _rows(path, _from_musique)


READERS: dict[str, Reader] = {
    "jsonl": scan,
    "csv": scan,
    "break": read_break,
    "strategyqa": read_strategyqa,
    "musique": read_musique,
}
"""Source format -> its reader. `jsonl` and `csv` are our own rows, in any format that `scan` reads."""


def _rows(path: Path, change: Callable[[Record], dict[str, Any]]) -> Iterator[Record | RowError]:
    for found in scan(path):
        if isinstance(found, Record):
            try:
                found = Record(change(found), found.source)
            except RowError as error:
                found = error
        yield found


def _from_break(record: Record) -> dict[str, Any]:
    text = _field(record, "decomposition")
    if not isinstance(text, str):
        raise RowError(record.source, "not a decomposition", f"decomposition must be text, not {show(text)}")
    if found := _BROKEN_REFERENCE.search(text):
        message = f"decomposition: {found[0]!r} is a reference without its number; correct or remove the row"
        raise RowError(record.source, "broken reference", message)
    steps = ["" if part == "return" else part.removeprefix("return ").strip() for part in _qdmr_parts(text)]
    others = {name: value for name, value in record.row.items() if value != ""}
    return _row(record, others, "question_text", "decomposition", steps)


def _from_strategyqa(record: Record) -> dict[str, Any]:
    return _row(record, record.row, "question", "decomposition", _field(record, "decomposition"))


def _from_musique(record: Record) -> dict[str, Any]:
    listed = _field(record, "question_decomposition")
    if not isinstance(listed, list) or not all(isinstance(step, dict) and "question" in step for step in listed):
        message = f"question_decomposition must be a list of objects with a question, not {show(listed)}"
        raise RowError(record.source, "not a decomposition", message)
    others = {**record.row, "step_answers": [step.get("answer") for step in listed]}
    return _row(record, others, "question", "", [step["question"] for step in listed])


def _row(record: Record, others: dict[str, Any], question: str, taken: str, steps: Any) -> dict[str, Any]:
    text = _field(record, question)
    for name in {"question", "sub_questions"} - {question}:
        if name in record.row:
            message = f"the field {name!r} stands in the way of the one made of {question!r}; rename or remove it"
            raise RowError(record.source, "field given twice", message)
    kept = {name: value for name, value in others.items() if name not in {question, taken}}
    collapsed = [_collapse(step) for step in steps] if isinstance(steps, list) else steps
    return {"question": _collapse(text), "sub_questions": collapsed, **kept}


def _field(record: Record, name: str) -> Any:
    if name in record.row:
        return record.row[name]
    there = ", ".join(record.row) or "no fields"
    message = f"the field {name!r} is missing; this row has {there}: is it of another format?"
    raise RowError(record.source, "field missing", message)


def _collapse(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def _qdmr_parts(text: str) -> list[str]:
    return [part.strip() for part in " ".join(text.split()).split(";")]
