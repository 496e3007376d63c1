"""Read the lines of a UTF-8 file with their numbers, or the reason why a line cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from qdsft.data.record import RowError
from qdsft.errors import UserError

LONGEST_LINE = 2**26
"""Bytes, also of a cell: a few kilobytes of gzip can hold a line that fills the memory."""
MOST_BLANK_LINES = 1_000_000
"""In a row: a few kilobytes of gzip can hold more than anybody waits for."""
LARGEST_LIST = 2**30
"""Bytes of a JSON list, which is read as a whole."""

Lines = Iterator[tuple[int, str | RowError]]

_BOM = "\ufeff"
_SAVE = 'save the file as UTF-8 (in Excel: "CSV UTF-8")'
_BAD_LINES = 3
"""Lines that are not UTF-8 in a file without any other UTF-8 text: the whole file is in another encoding."""


def read_lines(file: IO[bytes], path: Path) -> Lines:
    """Yield (number from 1, text) of every line, with its line end, without a byte order mark.

    Raises RowError where the rest cannot be read: a line over LONGEST_LINE, more than MOST_BLANK_LINES, or a file in
    another encoding.
    """
    offset, bad, blank, utf8 = 0, 0, 0, False
    for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
        where = f"{path}:{number}"
        if len(raw) > LONGEST_LINE:
            message = f"the line has over {LONGEST_LINE >> 20} MiB; write one row a line, with shorter text"
            raise RowError(where, "line too long", f"{message}; the rest of the file is not read")
        blank = blank + 1 if raw in {b"\n", b"\r\n"} else 0
        if blank > MOST_BLANK_LINES:
            message = f"over {MOST_BLANK_LINES} blank lines; remove them; the rest of the file is not read"
            raise RowError(where, "blank lines", message)
        try:
            text: str | RowError = raw.decode("utf-8")
            utf8 = utf8 or not raw.isascii()
        except UnicodeDecodeError as error:
            bad += 1
            text = _not_utf8(where, offset + error.start, _is_cp949(raw) and not utf8)
            if not utf8 and (_is_cp949(raw) or bad == _BAD_LINES):
                raise text from error
        offset += len(raw)
        if isinstance(text, str) and text.startswith(_BOM):
            text = text.removeprefix(_BOM) if number == 1 else joined(where)
        yield number, text


def read_text(file: IO[bytes], path: Path) -> str:
    """Return the text of a whole file without a byte order mark. Raises RowError for one that cannot be read."""
    raw = file.read(LARGEST_LIST + 1)
    if len(raw) > LARGEST_LIST:
        message = f"the list has over {LARGEST_LIST >> 30} GiB; write one object a line instead (JSON Lines)"
        raise RowError(str(path), "file too large", message)
    try:
        return raw.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _not_utf8(f"{path}:{line}", error.start, _is_cp949(raw[error.start : error.start + 100])) from error


def joined(where: str) -> RowError:
    """Return the fault of a byte order mark in the middle of a file."""
    message = (
        "a byte order mark (U+FEFF) in mid-file: files were joined; name them separately, or remove the mark and, in "
        "a table, the second header"
    )
    return RowError(where, "files were joined", message)


def memory_error(path: Path) -> UserError:
    """Return the error of a file that needs more memory than there is."""
    return UserError(f"{path}: out of memory; write one row a line (JSON Lines), or split the file")


def _is_cp949(raw: bytes) -> bool:
    """Return whether bytes that are not UTF-8 are Korean text in CP949 (EUC-KR)."""
    return any("가" <= character <= "힣" for character in raw.decode("cp949", errors="ignore"))


def _not_utf8(where: str, byte: int, cp949: bool) -> RowError:
    guess = ", probably CP949, which Excel writes as plain CSV in Korea" if cp949 else ""
    return RowError(where, "not UTF-8", f"not UTF-8 at byte {byte}{guess}; {_SAVE}")
