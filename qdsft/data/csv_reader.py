"""Read CSV and TSV row by row."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from qdsft.data.lines import LONGEST_LINE, Lines
from qdsft.data.record import Record, RowError, Scanned
from qdsft.data.table import Columns, HeaderError


def csv_rows(lines: Lines, path: Path, delimiter: str) -> Scanned:
    """Yield the rows under a header line. Raises RowError where the rest of the file cannot be read.

    A `sub_questions` cell is a JSON list, or has one step a line; or there is one column a step.
    """
    faults: list[RowError] = []
    columns: Columns | None = None
    for where, cells in _cells(lines, path, delimiter, faults):
        yield from faults
        damaged = bool(faults)
        faults.clear()
        if damaged or not any(cells):
            continue
        if columns is None:
            columns = _header(cells, where)
            continue
        fitted = columns.fit(cells)
        if cells == list(columns.names):
            yield RowError(where, "files were joined", "this is the header again: files were joined; remove this line")
        elif fitted is None:
            count = len(columns.names)
            message = f"{len(cells)} cells, but the header has {count} columns; quote the cells that hold commas"
            yield RowError(where, "wrong number of cells", message)
        elif nameless := columns.nameless(fitted):
            raise RowError(where, "column without a name", nameless)
        else:
            row = {name: cell for name, cell in zip(columns.names, fitted, strict=True) if name}
            yield _record(columns.fill(row), where)
    yield from faults


def _cells(lines: Lines, path: Path, delimiter: str, faults: list[RowError]) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, cells) of every row; lines that cannot be read are put into `faults`."""

    def readable() -> Iterator[str]:
        for _, line in lines:
            if isinstance(line, RowError):
                faults.append(line)
            yield line if isinstance(line, str) else ""

    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(readable(), delimiter=delimiter, strict=True)
    for row in count(1):
        where = f"{path}:{row}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            message = f"not CSV: {error}; correct its quotes; the rest of the file is not read"
            raise RowError(where, "not CSV", message) from error
        if cells is None:
            return
        yield where, cells


def _header(cells: list[str], where: str) -> Columns:
    if len(cells) == 1 and (found := re.search("[;\t]", cells[0])):
        message = f"the columns are separated by {found[0]!r}; save it with commas, or as .tsv with tabs"
        raise RowError(where, "not CSV", message)
    try:
        return Columns.of([cell.strip() for cell in cells])
    except HeaderError as error:
        raise RowError(where, "field given twice", str(error)) from error


def _record(row: dict[str, Any], where: str) -> Record | RowError:
    cell = row.get("sub_questions")
    if not isinstance(cell, str):
        return Record(row, where, tabular=True)
    if not cell.lstrip().startswith("["):
        # Not splitlines(), which would also split at U+2028, VT, NEL and others inside a step.
        steps = [line for line in cell.replace("\r\n", "\n").split("\n") if line.strip()]
        return Record({**row, "sub_questions": steps}, where, tabular=True)
    try:
        return Record({**row, "sub_questions": json.loads(cell)}, where, tabular=True)
    except (ValueError, RecursionError):
        message = "the cell sub_questions begins with [ but is not a JSON list; correct it, or write one step a line"
        return RowError(where, "not JSON", message)
