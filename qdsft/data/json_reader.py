"""Read JSON and JSON Lines row by row. Refuse what Python's json accepts silently: NaN, a key given twice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qdsft.data.lines import joined
from qdsft.data.record import Record, RowError, Scanned, short_json
from qdsft.errors import cut

_SPACE = " \t\r\n"
"""White space in JSON; str.strip() would also remove U+2028 and others."""
_BLANKS = re.compile(f"[{_SPACE}]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Decoder:
    """A JSON decoder that notes what JSON forbids or Python cannot represent."""

    def __init__(self) -> None:
        self._found: list[tuple[str, str]] = []
        self._decoder = json.JSONDecoder(
            parse_constant=self._constant,
            parse_int=self._int,
            parse_float=self._float,
            object_pairs_hook=self._pairs,
        )

    def row(self, text: str, start: int, where: str) -> tuple[Record | RowError, int]:
        """Return the row at `start`, or its fault, and the position of its end.

        Raises JSONDecodeError or RowError if the end is not known.
        """
        self._found.clear()
        try:
            value, end = self._decoder.raw_decode(text, start)
            fault = self._fault(value, text[start:end])
        except RecursionError as error:
            raise RowError(where, "not JSON", "nested too deeply; flatten or remove the row") from error
        return (RowError(where, *fault) if fault else Record(value, where)), end

    def _pairs(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) < len(items):
            seen: set[str] = set()
            twice = next(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            self._found.append(("field given twice", f"the field {cut(twice, 40)!r} is given twice; remove one"))
        return result

    def _constant(self, name: str) -> None:
        self._found.append(("NaN or infinity", f"{name} is not a JSON value; replace or remove it"))

    def _int(self, digits: str) -> int:
        return int(digits) if len(digits) < 4000 else int(self._too_large())

    def _float(self, digits: str) -> float:
        value = float(digits)
        return self._too_large() if value in (float("inf"), float("-inf")) else value

    def _too_large(self) -> float:
        self._found.append(("number too large", "a number is too large; correct or remove it"))
        return 0.0

    def _fault(self, value: Any, text: str) -> tuple[str, str] | None:
        """Return (kind, message) of the first fault of a row."""
        if "\\u" in text and _SURROGATE.search(text):
            try:
                json.dumps(value, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:
                return "half a surrogate pair", "a text has half of a surrogate pair (\\ud800-\\udfff); remove it"
        if not isinstance(value, dict):
            return "not an object", f"a row must be an object with fields, not {short_json(value)}"
        return self._found[0] if self._found else None


def json_lines(lines: Iterator[tuple[int, str | RowError]], path: Path) -> Scanned:
    """Yield the row of each line that is not blank, or a RowError in its place."""
    decoder = _Decoder()
    for number, line in lines:
        if isinstance(line, RowError):
            yield line
        elif text := line.strip(_SPACE):
            yield _line(decoder, text, len(line) - len(line.lstrip(_SPACE)), f"{path}:{number}")


def _line(decoder: _Decoder, text: str, indent: int, where: str) -> Record | RowError:
    try:
        row, stop = decoder.row(text, 0, where)
        if stop < len(text):
            raise json.JSONDecodeError("Extra data", text, _skip_space(text, stop))
    except json.JSONDecodeError as error:
        if text.startswith("\ufeff", error.pos):
            return joined(where)
        column = indent + error.pos + 1
        message = f"not JSON at column {column}: {error.msg}; write one object a line, or one JSON list"
        return RowError(where, "not JSON", message)
    except RowError as error:
        return error
    return row


def json_list(text: str, path: Path) -> Scanned:
    """Yield the rows of a JSON list one by one, so that each has its line. Raises RowError if the rest is not read."""
    decoder = _Decoder()
    position, line, counted = text.index("[") + 1, 1, 0
    separator = ""
    while True:
        position = _skip_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if text[position : position + 1] == "]":
            break
        if separator and text[position : position + 1] != separator:
            raise RowError(
                f"{path}:{line}", "not JSON", "not JSON: expected ',' or ']' after a row; correct or complete the list"
            )
        position = _skip_space(text, position + len(separator))
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.row(text, position, f"{path}:{line}")
        except json.JSONDecodeError as error:
            message = f"not JSON at column {error.colno}: {error.msg}; the rest of the file is not read"
            raise RowError(f"{path}:{error.lineno}", "not JSON", message) from error
        yield row
        separator = ","
    if text.startswith("\ufeff", _skip_space(text, position + 1)):
        raise joined(f"{path}:{line}")
    if _skip_space(text, position + 1) < len(text):
        raise RowError(f"{path}:{line}", "not JSON", "there is text after the closing ']'; remove it")


def _skip_space(text: str, position: int) -> int:
    found = _BLANKS.match(text, position)
    return found.end() if found else position
