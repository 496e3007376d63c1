"""Files of questions that wait for an answer: a question a line, or rows with the columns of a prompt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from qdsft.data.readers import scan
from qdsft.data.record import Record, RowError
from qdsft.data.validation import question_faults
from qdsft.errors import UserError
from qdsft.hashing import unreadable


def read_questions(path: Path, columns: Sequence[str], *, decomposition: bool = True) -> Iterator[Record | RowError]:
    """The rows of a file in order, and what is wrong with the others in their place, each with file and line.

    `columns` are those that the prompt needs. A .txt file holds a question a line, blank lines left out; any other
    is read by `readers.scan`. For the decomposition task a row needs a `question` that training would accept.
    Raises UserError if the file cannot be opened, and for a .txt file if the prompt needs more than a question.
    """
    if path.suffix.lower() != ".txt":
        found = scan(path)
    elif len(columns) == 1 and (not decomposition or columns[0] == "question"):
        found = _lines(path, columns[0])
    else:
        raise UserError(f"{path}: this run's prompt has the columns {', '.join(columns)}; give JSON Lines with them")
    for row in found:
        yield row if isinstance(row, RowError) else _checked(row, decomposition)


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


def _checked(record: Record, decomposition: bool) -> Record | RowError:
    if decomposition:
        for fault in question_faults(record):
            return fault
    try:
        json.dumps(record.row, allow_nan=False, default=str).encode("utf-8")
    except (ValueError, RecursionError):
        return RowError(record.source, "NaN or infinity", "a column cannot be written as JSON; correct or remove it")
    return record
