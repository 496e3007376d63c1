"""Read the rows of JSON, JSON Lines, CSV, TSV and Parquet files, plain or gzip, each with its file and line.

`scan` yields a fault instead of raising it and reads on where the format allows, so that one pass can report every
unusable row of a file.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from qdsft.data.csv_reader import csv_rows
from qdsft.data.file_kind import foreign_kind, has_mac_line_ends
from qdsft.data.json_reader import json_lines, json_list
from qdsft.data.lines import LONGEST_LINE, memory_error, read_lines, read_text
from qdsft.data.record import Record, RowError, Scanned, checked
from qdsft.data.table import Columns, HeaderError
from qdsft.errors import UserError, reason

FORMAT_OF_SUFFIX = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
"""Suffix -> format. Every other file is JSON or JSON Lines, told apart by the first character."""


def scan(path: Path) -> Scanned:
    """Yield the rows of a file in order, with a RowError in place of each faulty row. `.gz` after a suffix means gzip.

    JSON Lines, CSV and Parquet are streamed; a JSON list is read as a whole. Raises UserError if the file cannot be
    opened, or needs more memory than there is.
    """
    try:
        yield from _parquet(path) if _format(path) == "parquet" else _text_rows(path)
    except RowError as error:
        yield error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield RowError(str(path), "damaged file", f"the gzip data is damaged ({error}); make or download it again")
    except OSError as error:
        found = error.strerror or error
        raise UserError(f"{path}: {found} (looked at {path.absolute()}); correct the path") from error
    except MemoryError as error:
        raise memory_error(path) from error


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return FORMAT_OF_SUFFIX.get(suffixes[-1], "json") if suffixes else "json"


def _text_rows(path: Path) -> Scanned:
    kind = _format(path)
    with _open(path) as file:
        start = file.peek(2**12)
        if message := foreign_kind(start, path):
            raise RowError(str(path), "not a data file", message)
        is_list = kind == "json" and _starts_list(file)
        if not is_list and has_mac_line_ends(start):
            message = (
                'its lines end in CR alone, as on old Macs; save it as "CSV UTF-8", or convert the line ends to LF'
            )
            raise RowError(str(path), "not a data file", message)
        if kind != "json":
            yield from csv_rows(read_lines(file, path), path, "\t" if kind == "tsv" else ",")
        elif is_list:
            yield from json_list(read_text(file, path), path)
        else:
            yield from json_lines(read_lines(file, path), path)


def _open(path: Path) -> io.BufferedReader:
    file = path.open("rb")
    if path.suffix.lower() != ".gz":
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file))  # type: ignore[arg-type]


def _starts_list(file: io.BufferedReader) -> bool:
    """Return whether the first character that is not white space is `[`. The file is rewound."""
    first, read = b"", 0
    while not first and read < LONGEST_LINE and (more := file.read(2**16)):
        first = (more if read else more.removeprefix(codecs.BOM_UTF8)).lstrip()
        read += len(more)
    file.seek(0)
    return first.startswith(b"[")


def _parquet(path: Path) -> Scanned:
    from pyarrow import parquet

    number = 0
    try:
        with path.open("rb") as raw, parquet.ParquetFile(raw) as file:
            columns = Columns.of(file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield checked(columns.fill(row), f"{path}:{number}", tabular=True)
    except HeaderError as error:
        raise RowError(str(path), "field given twice", str(error)) from error
    except (RowError, OSError):
        raise
    # Not only ArrowException: a date after the year 9999 is a ValueError, an unknown time zone a KeyError of pytz.
    except Exception as error:
        message = f"not a readable Parquet file: {reason(error)}; make or download it again"
        yield RowError(f"{path}:{number + 1}", "damaged file", message)


def stream_records(path: Path) -> Iterator[Record]:
    """Yield the rows of a file one by one.

    Raises UserError, with file and line, for a missing or empty file and for the first fault that `scan` finds.
    """
    empty = True
    for row in scan(path):
        if isinstance(row, RowError):
            raise row
        empty = False
        yield row
    if empty:
        raise UserError(f"{path}: there are no rows; give a file with at least one")
