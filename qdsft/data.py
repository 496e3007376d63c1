"""Reading and validating rows: JSON and JSON Lines, with the file and line of every row."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from qdsft.decomposition import Decomposition
from qdsft.errors import UserError

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_FILE_SUFFIXES = {".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".gz", ".zip"}


@dataclass(frozen=True)
class Record:
    """One row and where it stands."""

    row: dict[str, Any]
    """Column name -> value."""
    source: str
    """`file:line` of the row, for error messages."""


def is_hub_id(name: str) -> bool:
    """Whether `data.train` or `data.eval` names a Hub dataset rather than a file."""
    path = Path(name)
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name) and path.suffix.lower() not in _FILE_SUFFIXES


def read_records(path: Path) -> list[Record]:
    """Read a JSON list of objects, or one object a line; which of the two, the first character tells.

    Raises UserError, naming file and line, for a missing or empty file, text that is not UTF-8,
    broken JSON, rows that are not objects, duplicate keys, numbers that are not finite, and half surrogate pairs.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error} (looked at {path.absolute()}); correct the path") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    rows = _list_rows(text, path) if text.lstrip().startswith("[") else _line_rows(text, path)
    records = [Record(row, f"{path}:{line}") for line, row in rows]
    if not records:
        raise UserError(f"{path}: there are no rows; give a file with at least one")
    return records


def validate(record: Record) -> None:
    """Check one row of the decomposition task.

    Raises UserError naming file and line for a missing or mistyped field, an empty list or step, a
    step with a line break, and a reference that is dangling, forward or to itself.
    """
    question, steps = (_field(record, name) for name in ("question", "sub_questions"))
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{record.source}: question must be text that is not empty, not {_show(question)}")
    if not isinstance(steps, list):
        raise UserError(f"{record.source}: sub_questions must be a list of text, not {_show(steps)}")
    for number, step in enumerate(steps, start=1):
        if not isinstance(step, str):
            raise UserError(f"{record.source}: sub_questions: step {number} must be text, not {_show(step)}")
    if problems := Decomposition(tuple(steps)).problems():
        raise UserError(f"{record.source}: sub_questions: {problems[0]}; correct or remove the row")


def _field(record: Record, name: str) -> Any:
    if name not in record.row:
        close = get_close_matches(name, record.row, n=1)
        hint = f"; is it {close[0]!r}? rename it" if close else f"; this row has {', '.join(record.row) or 'no fields'}"
        raise UserError(f"{record.source}: the field {name!r} is missing{hint}")
    return record.row[name]


def _line_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}:{number}"
            try:
                with _unreadable(where):
                    row = _decoder(where).decode(line.strip())
            except json.JSONDecodeError as error:
                column = len(line) - len(line.lstrip()) + error.colno
                raise UserError(
                    f"{where}: not JSON at column {column}: {error.msg}; write one object a line, or one JSON list"
                ) from error
            yield number, _object(row, where)


def _list_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a JSON list, read one by one so that each has its line."""
    position, line, counted = text.index("[") + 1, 1, 0
    separator = ""
    while True:
        position = _skip_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            break
        if separator and text[position : position + 1] != separator:
            raise UserError(f"{path}:{line}: not JSON: expected ',' or ']' after a row")
        position = _skip_space(text, position + len(separator))
        line, counted = line + text.count("\n", counted, position), position
        where = f"{path}:{line}"
        try:
            with _unreadable(where):
                row, position = _decoder(where).raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{error.lineno}: not JSON at column {error.colno}: {error.msg}") from error
        yield line, _object(row, where)
        separator = ","
    if text[position + 1 :].strip():
        raise UserError(f"{path}:{line}: there is text after the closing ']'; remove it")


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in {" ", "\t", "\r", "\n"}:
        position += 1
    return position


def _decoder(where: str) -> json.JSONDecoder:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) < len(items):
            twice = next(key for key, _ in items if sum(key == other for other, _ in items) > 1)
            raise UserError(f"{where}: the field {twice!r} is given twice; remove one")
        return result

    def constant(name: str) -> Any:
        raise UserError(f"{where}: {name} is not a JSON value; replace or remove it")

    return json.JSONDecoder(object_pairs_hook=pairs, parse_constant=constant)


@contextmanager
def _unreadable(where: str) -> Iterator[None]:
    """Name the row where Python gives up on JSON, in either direction, for another reason than its grammar."""
    try:
        yield
    except (json.JSONDecodeError, UserError):
        raise
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half of a surrogate pair (\\ud800-\\udfff) stands in a text; remove it") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply") from error
    except ValueError as error:  # thousands of digits; 1e999, which reads as infinity
        raise UserError(f"{where}: a number is too large; correct or remove it") from error


def _object(row: Any, where: str) -> dict[str, Any]:
    with _unreadable(where):
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8")
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be an object with fields, not {_show(row)}")
    return row


def _show(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:  # read further out on the stack, where a little more fits
        return "something nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."
