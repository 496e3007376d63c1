"""Read the rows of JSON, JSON Lines, CSV, TSV and Parquet files, plain or gzip, each with its file and line.

`scan` yields a fault instead of raising it and reads on where the format allows, so that one pass can report every
unusable row of a file.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, Any

from qdsft.data.json_reader import json_lines, json_list
from qdsft.data.record import Record, RowError, Scanned
from qdsft.errors import UserError

FORMATS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
"""Suffix -> format. Every other file is JSON or JSON Lines, told apart by the first character."""

LONGEST_CELL = 2**30
"""Characters; the csv module's own limit is 131,072."""


def scan(path: Path) -> Scanned:
    """Yield the rows of a file in order, with a RowError in place of each faulty row. `.gz` after a suffix means gzip.

    JSON Lines, CSV and Parquet are streamed; a JSON list is read as a whole. Raises UserError if the file cannot be
    opened.
    """
    kind = _format(path)
    try:
        if kind == "parquet":
            yield from _parquet(path)
            return
        with _open(path) as file:
            if kind != "json":
                yield from _csv(_lines(file, path), path, "\t" if kind == "tsv" else ",")
            elif _starts_list(file):
                yield from json_list(_text(file, path), path)
            else:
                yield from json_lines(_lines(file, path), path)
    except RowError as error:
        yield error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield RowError(str(path), "damaged file", f"the gzip data is damaged ({error}); make or download it again")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path}: {reason} (looked at {path.absolute()}); correct the path") from error


def _format(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return FORMATS.get(suffixes[-1], "json") if suffixes else "json"


def _open(path: Path) -> IO[bytes]:
    file = path.open("rb")
    if path.suffix.lower() != ".gz":
        return file
    return io.BufferedReader(gzip.GzipFile(fileobj=file))  # type: ignore[arg-type]


def _starts_list(file: IO[bytes]) -> bool:
    """Return whether the first character that is not white space is `[`. The file is rewound."""
    start = b""
    while not (text := start.removeprefix(codecs.BOM_UTF8).lstrip()) and (more := file.read(4096)):
        start += more
    file.seek(0)
    return text.startswith(b"[")


def _text(file: IO[bytes], path: Path) -> str:
    raw = file.read()
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _not_utf8(f"{path}:{line}", error.start) from error


def _not_utf8(where: str, byte: int) -> RowError:
    return RowError(where, "not UTF-8", f"not UTF-8 at byte {byte}; save the file as UTF-8 (in Excel: CSV UTF-8)")


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, str | RowError]]:
    """Yield (number from 1, text) of every line, with its line end, without a byte order mark."""
    offset = 0
    for number, raw in enumerate(file, start=1):
        try:
            text: str | RowError = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            text = _not_utf8(f"{path}:{number}", offset + error.start)
        offset += len(raw)
        yield number, text.removeprefix("\ufeff") if number == 1 and isinstance(text, str) else text


def _csv(lines: Iterator[tuple[int, str | RowError]], path: Path, delimiter: str) -> Scanned:
    """Yield the rows under a header line. A `sub_questions` cell is a JSON list, or has one step a line."""
    faults: list[RowError] = []

    def readable() -> Iterator[str]:
        for _, line in lines:
            if isinstance(line, RowError):
                faults.append(line)
            yield line if isinstance(line, str) else ""

    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(readable(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    for row in count(1):
        where = f"{path}:{row}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield RowError(where, "not CSV", f"not CSV: {error}; correct its quotes; the rest of the file is not read")
            return
        yield from faults
        damaged = bool(faults)
        faults.clear()
        if cells is None:
            return
        if damaged or not any(cells):
            continue
        if header is None:
            header = cells
            if len(header) == 1 and (found := re.search("[;\t]", header[0])):
                message = f"the columns are separated by {found[0]!r}; save it with commas, or as .tsv with tabs"
                yield RowError(where, "not CSV", message)
                return
            if len(set(header)) < len(header):
                yield RowError(where, "field given twice", "two columns have one name; rename one of them")
                return
        elif len(cells) != len(header):
            message = f"{len(cells)} cells, but the header has {len(header)} columns; quote the cells that hold commas"
            yield RowError(where, "wrong number of cells", message)
        else:
            yield _csv_record(dict(zip(header, cells, strict=True)), where)


def _csv_record(row: dict[str, Any], where: str) -> Record | RowError:
    cell = row.get("sub_questions")
    if cell is None:
        return Record(row, where)
    if not cell.lstrip().startswith("["):
        # Not splitlines(), which would also split at U+2028, VT, NEL and others inside a step.
        steps = [line for line in cell.replace("\r\n", "\n").split("\n") if line.strip()]
        return Record({**row, "sub_questions": steps}, where)
    try:
        return Record({**row, "sub_questions": json.loads(cell)}, where)
    except (ValueError, RecursionError):
        message = "the cell sub_questions begins with [ but is not a JSON list; correct it, or write one step a line"
        return RowError(where, "not JSON", message)


def _parquet(path: Path) -> Scanned:
    import pyarrow as arrow
    from pyarrow import parquet

    number = 0
    try:
        with path.open("rb") as raw, parquet.ParquetFile(raw) as file:
            for batch in file.iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    number += 1
                    yield _finite(row, f"{path}:{number}")
    except (arrow.ArrowException, UnicodeDecodeError, EOFError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"not a readable Parquet file: {first[:200]}; make or download it again"
        yield RowError(f"{path}:{number + 1}", "damaged file", message)


def _finite(row: dict[str, Any], where: str) -> Record | RowError:
    for name, value in row.items():
        if (found := _not_finite(value)) is not None:
            return RowError(where, "NaN or infinity", f"the field {name!r} is {found}; replace or remove it")
    return Record(row, where)


def _not_finite(value: Any) -> float | None:
    """Return the first NaN or infinity in a value, at any depth."""
    if isinstance(value, float):
        return None if math.isfinite(value) else value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for one in inner if (found := _not_finite(one)) is not None), None)


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
