"""JSON and JSON Lines, row by row: what Python reads without a word (NaN, a key twice) is a fault here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import compress, islice
from pathlib import Path
from typing import Any

from qdsft.data.record import Record, RowError, Scanned, show

BETWEEN = ",null,"
"""What stands between lines that are read as one list."""
TOGETHER = 100
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Json:
    """A JSON decoder that notes what JSON's grammar or Python's reading of it lets through."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        hooks: dict[str, Any] = {
            "parse_constant": self._constant,
            "parse_int": self._int,
            "parse_float": self._float,
        }
        self._decode_all: Callable[[str], Any] = json.JSONDecoder(**hooks).decode
        by_pairs = json.JSONDecoder(**hooks, object_pairs_hook=self._pairs)
        self._decode_pairs: Callable[[str, int], tuple[Any, int]] = by_pairs.raw_decode

    def _pairs(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) < len(items):
            twice = next(key for key, _ in items if sum(key == other for other, _ in items) > 1)
            self.found.append(("field given twice", f"the field {twice!r} is given twice; remove one"))
        return result

    def _constant(self, name: str) -> None:
        self.found.append(("NaN or infinity", f"{name} is not a JSON value; replace or remove it"))

    def _int(self, digits: str) -> int:
        return int(digits) if len(digits) < 4000 else int(self._too_large())

    def _float(self, digits: str) -> float:
        value = float(digits)
        return self._too_large() if value in (float("inf"), float("-inf")) else value

    def _too_large(self) -> float:
        self.found.append(("number too large", "a number is too large; correct or remove it"))
        return 0.0

    def row(self, text: str, start: int, where: str) -> tuple[Record | RowError, int]:
        """(the row at `start` or what is wrong with it, where it ends); raises RowError if that is not known."""
        self.found.clear()
        try:
            value, end = self._decode_pairs(text, start)
            fault = self._fault(value, text[start:end])
        except RecursionError as error:
            raise RowError(where, "not JSON", "nested too deeply") from error
        return (RowError(where, *fault) if fault else Record(value, where)), end

    def rows(self, lines: list[str]) -> list[dict[str, Any]] | None:
        """The objects of lines with one `{` each, read as one list in half the time; None to read line by line.

        That none is broken, and none takes part of another, shows in how often signs occur. With as many outermost
        objects as lines, each `{` begins one; each line begins with it and ends with a `}`, as what stands between
        lines shows. A name is followed by a quote and a colon, so with no more of these than there are fields none
        came twice.
        """
        text = BETWEEN.join(lines)
        count = len(lines)
        between = {text.count(BETWEEN), text.count(f"}}{BETWEEN}{{")}
        if between != {count - 1}:
            return None
        if any(f"{blank}:" in text for blank in " \t\n\r") or ("\\u" in text and _SURROGATE.search(text)):
            return None
        self.found.clear()
        try:
            values = self._decode_all(f"[{text}]")
        except (json.JSONDecodeError, RecursionError):
            return None
        found: list[dict[str, Any]] = values[::2]
        if self.found or len(values) != 2 * count - 1 or set(map(type, found)) != {dict}:
            return None
        return found if text.count('":') == sum(map(len, found)) else None

    def _fault(self, value: Any, text: str) -> tuple[str, str] | None:
        if "\\u" in text and _SURROGATE.search(text):
            try:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:
                message = "half of a surrogate pair (\\ud800-\\udfff) stands in a text; remove it"
                return "half a surrogate pair", message
        if not isinstance(value, dict):
            return "not an object", f"a row must be an object with fields, not {show(value)}"
        return self.found[0] if self.found else None


def json_lines(lines: Iterator[tuple[int, str | RowError]], path: Path) -> Scanned:
    decoder = _Json()
    while batch := list(islice(lines, TOGETHER)):
        texts = [line.strip() if isinstance(line, str) else "" for _, line in batch]
        flat = [text.count("{") == 1 for text in texts]
        rows = decoder.rows(list(compress(texts, flat)))
        if rows is None:
            flat = [False] * len(batch)
        together = iter(rows or [])
        for (number, line), is_flat in zip(batch, flat, strict=True):
            where = f"{path}:{number}"
            if is_flat:
                yield Record(next(together), where)
            elif row := _line(decoder, line, where):
                yield row


def _line(decoder: _Json, line: str | RowError, where: str) -> Record | RowError | None:
    """What stands in one line; None if it is blank."""
    if isinstance(line, RowError):
        return line
    text = line.strip()
    if not text:
        return None
    try:
        row, stop = decoder.row(text, 0, where)
        if stop < len(text):
            raise json.JSONDecodeError("Extra data", text, len(text) - len(text[stop:].lstrip()))
    except json.JSONDecodeError as error:
        column = len(line) - len(line.lstrip()) + error.pos + 1
        message = f"not JSON at column {column}: {error.msg}; write one object a line, or one JSON list"
        return RowError(where, "not JSON", message)
    except RowError as error:
        return error
    return row


def json_list(text: str, path: Path) -> Scanned:
    """Rows of a JSON list, read one by one so that each has its line."""
    decoder = _Json()
    position, line, counted = text.index("[") + 1, 1, 0
    separator = ""
    while True:
        position = _skip_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            break
        if separator and text[position : position + 1] != separator:
            raise RowError(f"{path}:{line}", "not JSON", "not JSON: expected ',' or ']' after a row")
        position = _skip_space(text, position + len(separator))
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.row(text, position, f"{path}:{line}")
        except json.JSONDecodeError as error:
            message = f"not JSON at column {error.colno}: {error.msg}; nothing behind it is read"
            raise RowError(f"{path}:{error.lineno}", "not JSON", message) from error
        yield row
        separator = ","
    if text[position + 1 :].strip():
        raise RowError(f"{path}:{line}", "not JSON", "there is text after the closing ']'; remove it")


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in {" ", "\t", "\r", "\n"}:
        position += 1
    return position
