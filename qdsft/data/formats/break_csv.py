"""Read BREAK's CSV files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from qdsft.data.formats.csv_rows import unguarded
from qdsft.data.formats.format import Format, Reader
from qdsft.data.formats.read import get_field, make_row, read_changed
from qdsft.data.record import Record, RowError, Scanned, short_json

_BROKEN_REFERENCE = re.compile(r"#REF\b")


def break_steps(text: str) -> list[str]:
    """Return the steps of a BREAK decomposition string as BREAK's official evaluator parses it, for metrics only.

    The evaluator collapses white space, splits at ";", strips each part and deletes every "return" in it, also
    inside a word: "return x" gives " x" with its leading space, "returned" gives "ed". References stay `#n`;
    `metrics.string_form` writes them as `@@n@@`.
    """
    return [part.replace("return", "") for part in _parts(text)]


def read(path: Path) -> Scanned:
    """Yield the rows of a CSV file with `question_text` and `decomposition` ("return x ;return #1 that y").

    A step is the text after the "return " at its start. Other columns are kept as text, empty cells left out. The
    apostrophe is removed that `--to qdmr` writes before a formula. BREAK lost some references itself (`#REF`): such a
    row is a RowError.
    """
    return read_changed(path, _row)


def _row(record: Record) -> dict[str, Any]:
    cells = {name: unguarded(cell) if isinstance(cell, str) else cell for name, cell in record.row.items()}
    record = Record(cells, record.source, record.tabular)
    text = get_field(record, "decomposition")
    if not isinstance(text, str):
        raise RowError(record.source, "not a decomposition", f"decomposition must be text, not {short_json(text)}")
    if found := _BROKEN_REFERENCE.search(text):
        message = f"decomposition: {found[0]!r} is a reference without its number; correct or remove the row"
        raise RowError(record.source, "broken reference", message)
    steps = ["" if part == "return" else part.removeprefix("return ").strip() for part in _parts(text)]
    others = {name: value for name, value in record.row.items() if value != ""}
    return make_row(record, "question_text", steps, others, drop="decomposition")


def _parts(text: str) -> list[str]:
    return [part.strip() for part in " ".join(text.split()).split(";")]


FORMAT = Format(
    "break",
    Reader(
        read,
        file="[BREAK](https://github.com/allenai/Break)'s CSV: `question_id`, `question_text`, `decomposition`, "
        "`operators`, `split`",
        steps="the text after the `return` at a step's start; phrases, not questions",
        columns="kept as text; empty cells are left out",
    ),
)
