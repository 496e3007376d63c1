"""Read files of questions: one question per line, or rows with the columns of a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError
from qdsft.data.task import Task
from qdsft.errors import UserError
from qdsft.hashing import unreadable


def read_questions(path: Path, task: Task) -> Iterator[Record | RowError]:
    """Yield the rows of a file in order; a row that cannot be asked yields a RowError with file and line.

    A .txt file has one question per line; blank lines are skipped. Other files are read by `readers.scan`.
    Raises UserError if the file cannot be opened, and for a .txt file if the prompt needs more than a question.
    """
    if path.suffix.lower() != ".txt":
        found = scan(path)
    elif task.text_column is not None:
        found = _lines(path, task.text_column)
    else:
        columns = ", ".join(task.columns)
        raise UserError(f"{path}: this run's prompt has the columns {columns}; give JSON Lines with them")
    for row in found:
        yield row if isinstance(row, RowError) else _checked(row, task)


def _lines(path: Path, column: str) -> Iterator[Record | RowError]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                where = f"{path}:{number}"
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError:
                    yield RowError(where, "not UTF-8", "not UTF-8; save the file as UTF-8")
                    continue
                if text:
                    yield Record({column: text}, where)
    except OSError as error:
        raise unreadable(path, error) from error


def _checked(record: Record, task: Task) -> Record | RowError:
    for fault in task.question_faults(record):
        return fault
    try:
        json.dumps(record.row, allow_nan=False, default=str).encode("utf-8")
    except (ValueError, RecursionError):
        return RowError(record.source, "NaN or infinity", "a column cannot be written as JSON; correct or remove it")
    return record
